"""LiteLLM's routes, and what to know of those that do something else here, or what to use in place of them.

A line is a method, a path and, behind a bar, a note: of a route that is served, how it differs; of another, what to
use. Without a note there is no difference, or the gateway itself says why the route is not offered.
"""

ROUTES: dict[str, str] = {
    "Keys": """
POST /key/generate | `token` is the key's id, which stays when its secret changes
POST /key/service-account/generate
POST /key/update
POST /key/bulk_update
POST /key/delete
GET /key/info | also by alias, and with the versions of the secret
POST /v2/key/info
GET /key/list | no filters by project, agent and access group
GET /key/aliases
POST /key/health | asks about the key that is sent; there are no callbacks to test
POST /key/block | in force on every proxy before the answer, also without the database
POST /key/unblock
POST /key/regenerate | for everybody; the key's id, spend and limits stay
POST /key/{key}/regenerate | for everybody; the key's id, spend and limits stay
POST /key/{key}/reset_spend | with a reason, as a correction in the log
""",
    "Teams": """
POST /team/new
POST /team/update
POST /team/delete | its keys are refused at once
GET /team/info
GET /team/list
GET /v2/team/list
POST /team/block | its keys are refused at once
POST /team/unblock
POST /team/member_add
POST /team/bulk_member_add
POST /team/member_update | roles only: budgets and limits belong to keys, teams and organizations
POST /team/member_delete | ends the member's keys of the team
POST /team/{team_id}/member/{user_id}/reset_spend | members have no budgets
POST /team/model/add | `models` of `POST /team/update`
POST /team/model/delete | `models` of `POST /team/update`
GET /team/permissions_list | what a member may do is the role of their key: [api](api.md)
POST /team/permissions_update | what a member may do is the role of their key: [api](api.md)
GET /team/available | `GET /team/list`
GET /team/daily/activity | `GET /spend/teams`, `GET /spend/logs`
POST /team/{team_id}/callback | calls are not reported to anybody else; usage is on a stream: [events](events.md)
POST /team/{team_id}/disable_logging | prompts and completions are never logged
""",
    "Organizations": """
POST /organization/new | for everybody
PATCH /organization/update | also as POST
DELETE /organization/delete | also as POST; its teams and keys are refused at once
GET /organization/info
POST /organization/info | `GET /organization/info`
GET /organization/list
POST /organization/member_add | there are no roles in an organization
PATCH /organization/member_update | there are no roles in an organization: `org_admin` keys
DELETE /organization/member_delete | `POST /organization/member_delete`
GET /organization/daily/activity | `GET /spend/orgs`, `GET /spend/logs`
""",
    "Users": """
POST /user/new | budgets and limits are refused: they belong to keys, teams and organizations
POST /user/update
POST /user/delete | ends the user's keys
GET /user/info
GET /v2/user/info | `GET /user/info`
GET /user/list
POST /user/bulk_update | `POST /user/update`
GET /user/available_roles | there are four: [api](api.md)
GET /user/daily/activity | `GET /spend/logs`
""",
    "Budgets": """
POST /budget/new
POST /budget/update | every key, team and organization that has it follows
POST /budget/info
GET /budget/list
GET /budget/settings
POST /budget/delete | refused while anything has it
""",
    "Spend and audit": """
GET /spend/keys | a page at a time, the dearest first
GET /spend/logs | a page at a time, with `cursor`; other filters
GET /spend/users | `GET /spend/keys`
GET /spend/tags | usage carries tags: [events](events.md)
POST /spend/calculate | `tundish prices show`
POST /cost/estimate | `tundish prices show`
GET /global/spend
GET /global/spend/keys
GET /global/spend/teams
GET /global/spend/models
GET /global/spend/tags
GET /global/spend/report
GET /global/spend/logs
POST /global/spend/reset
GET /global/activity
GET /audit | for everybody, and provable: `GET /audit/verify`
GET /audit/{id} | `GET /audit` with `object_id`
""",
    "Models, configuration and the rest of management": """
GET /model/info | without a way to change anything
GET /v1/model/info
GET /v2/model/info
GET /model_group/info
POST /model/new
POST /model/update
PATCH /model/{model_id}/update
POST /model/delete
POST /customer/new
POST /customer/update
POST /customer/delete
POST /customer/block
POST /customer/unblock
GET /customer/info
GET /customer/list
POST /end_user/new
POST /tag/new
POST /tag/update
POST /tag/delete
POST /tag/info
GET /tag/list
POST /project/new
POST /project/update
DELETE /project/delete
GET /project/info
GET /project/list
GET /credentials
POST /credentials
DELETE /credentials/{credential_name}
POST /config/update
GET /config/list
GET /config/yaml
POST /config/pass_through_endpoint
POST /invitation/new
GET /invitation/info
GET /sso/key/generate
GET /sso/callback
POST /jwt/key/mapping/new | people and programs come with keys
GET /cache/ping | there is no cache of answers
""",
    "Health": """
GET /health | `GET /health/readiness`
GET /health/readiness | says what is waited for
GET /health/liveliness
GET /health/liveness
GET /health/backlog | `/metrics` of each service
GET /health/services | `GET /health/readiness`
GET /health/drain | a proxy drains by itself when it is stopped
GET /health/history | `/metrics` of each service
GET /health/latest | `GET /health/readiness`
""",
    "Chat, responses, messages, embeddings": """
POST /chat/completions
POST /v1/chat/completions
POST /engines/{model}/chat/completions
POST /openai/deployments/{model}/chat/completions
POST /cursor/chat/completions | `POST /v1/chat/completions`
POST /queue/chat/completions | `POST /v1/chat/completions`
POST /completions
POST /v1/completions
POST /engines/{model}/completions
POST /openai/deployments/{model}/completions
POST /embeddings
POST /v1/embeddings
POST /engines/{model}/embeddings
POST /openai/deployments/{model}/embeddings
POST /responses | stored responses belong to the team
POST /v1/responses | stored responses belong to the team
POST /openai/v1/responses | stored responses belong to the team
GET /v1/responses/{response_id}
DELETE /v1/responses/{response_id}
POST /v1/responses/{response_id}/cancel
GET /v1/responses/{response_id}/input_items
POST /v1/responses/input_tokens
POST /v1/responses/compact
POST /v1/messages | also for models that are not Claude
POST /v1/messages/count_tokens
POST /v1/skills
GET /models
GET /v1/models
GET /v1/models/{model_id}
""",
    "Pictures, sound, documents, files": """
POST /images/generations
POST /v1/images/generations
POST /openai/deployments/{model}/images/generations
POST /images/edits
POST /v1/images/edits
POST /images/variations
POST /audio/transcriptions
POST /v1/audio/transcriptions
POST /audio/speech
POST /v1/audio/speech
POST /rerank
POST /v1/rerank
POST /v2/rerank
POST /ocr
POST /v1/ocr
POST /files | files belong to the team
POST /v1/files | files belong to the team
GET /v1/files
GET /v1/files/{file_id}
DELETE /v1/files/{file_id}
GET /v1/files/{file_id}/content
POST /v1/batches | batches belong to the team
GET /v1/batches
GET /v1/batches/{batch_id}
POST /v1/batches/{batch_id}/cancel
GET /realtime
GET /v1/realtime
GET /openai/v1/realtime
POST /v1/realtime/client_secrets
POST /v1/realtime/calls
POST /v1/realtime/transcription_sessions
POST /v1/live/sessions | `GET /v1/realtime`
""",
    "Other surfaces": """
POST /azure/{model}/{path} | only to the operations of the model's deployment: [raw routes](api.md#raw-routes)
POST /azure_ai/{model}/{path} | only to the operations of the model's deployment: [raw routes](api.md#raw-routes)
POST /azure_speech/{path} | not Foundry's models: call it yourself
POST /openai_passthrough/{path} | only Foundry is called
POST /bedrock/{path} | only Foundry is called
POST /vertex_ai/{path} | only Foundry is called
POST /gemini/{path} | only Foundry is called
POST /cohere/{path} | `POST /v2/rerank`, `POST /azure_ai/{model}/{path}`
POST /mistral/{path} | `POST /ocr`, `POST /azure_ai/{model}/{path}`
POST /vllm/{path} | only Foundry is called
POST /langfuse/{path} | calls are not reported to anybody else
POST /assemblyai/{path} | `POST /v1/audio/transcriptions`
POST /openrouter/{path} | only Foundry is called
POST /watsonx/{path} | only Foundry is called
POST /moderations
POST /v1/moderations
POST /fine_tuning/jobs
POST /v1/fine_tuning/jobs
POST /assistants
POST /v1/assistants
POST /v1/threads
POST /v1/threads/{thread_id}/runs
POST /v1/vector_stores
POST /v1/search
POST /rag/ingest | make your own retrieval; embeddings and rerank are here
POST /rag/query | make your own retrieval; embeddings and rerank are here
POST /v1/videos
POST /v1/containers
POST /v1beta/models/{model}:generateContent | Google's models are not on Foundry
POST /v1beta/models/{model}:streamGenerateContent | Google's models are not on Foundry
POST /v1beta/models/{model}:countTokens | Google's models are not on Foundry
POST /mcp
GET /mcp-rest/tools/list | MCP servers are not offered
POST /a2a/{agent}/message/send | agents are not offered
GET /v1/agents
POST /v1/traces | telemetry is sent out, not taken in
POST /v1/logs | telemetry is sent out, not taken in
POST /guardrails/apply_guardrail | Foundry filters contents itself
POST /utils/token_counter | `POST /v1/messages/count_tokens`
GET /utils/model_info | `GET /model/info`
POST /utils/transform_request | [translation](translation.md) says what is sent
GET /utils/supported_openai_params | [translation](translation.md)
POST /decisions | not a surface of Foundry's
POST /systemone | not a surface of Foundry's
POST /extraction | not a surface of Foundry's
POST /claude_code_gateway/{path} | `ANTHROPIC_BASE_URL` at the front door
""",
}
"""Heading → lines."""
