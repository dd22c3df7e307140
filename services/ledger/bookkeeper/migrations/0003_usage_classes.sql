-- Every class of usage that a call can be billed by, beside text: see docs/prices.md.
ALTER TABLE usage_event
    ADD COLUMN cache_write_1h_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN audio_input_tokens    bigint NOT NULL DEFAULT 0,
    ADD COLUMN audio_cached_tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN audio_output_tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN image_input_tokens    bigint NOT NULL DEFAULT 0,
    ADD COLUMN image_cached_tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN image_output_tokens   bigint NOT NULL DEFAULT 0,
    ADD COLUMN images                bigint NOT NULL DEFAULT 0,
    ADD COLUMN milliseconds          bigint NOT NULL DEFAULT 0,
    ADD COLUMN characters            bigint NOT NULL DEFAULT 0,
    ADD COLUMN queries               bigint NOT NULL DEFAULT 0,
    ADD COLUMN pages                 bigint NOT NULL DEFAULT 0,
    ADD COLUMN sessions              bigint NOT NULL DEFAULT 0,
    ADD COLUMN service_tier          text NOT NULL DEFAULT '',
    ADD COLUMN kind                  text NOT NULL DEFAULT '';
COMMENT ON COLUMN usage_event.input_tokens IS
    'Text of the prompt that is in no other class; the prompt is the sum of all classes of it.';
