"""All rate limits of one proxy instance and the other instances it shares them with; no clock and no network inside.

`tick` says what to tell the others, `heard` takes what they tell. An instance knows that the gossip reaches everybody
by hearing itself: without that it is on its own, gives nothing away, and lives on an even part of every limit.
"""

from collections import deque
from collections.abc import Iterable

from services.proxy.domain.limits.gossip import ROWS_PER_MESSAGE_MAX, News, Row
from services.proxy.domain.limits.quota import Peer, Quota

GOSSIP_MS = 100
BEAT_MS = 500
DEAD_MS = 3_000
"""An instance that was silent for so long shares no more; its calls in flight count no more."""
GONE_MS = 180_000
REFRESH_MS = 5_000
QUIET_MS = 100_000
"""A limit that nobody used for so long is not repeated any more; others stop believing it later, and before it is
forgotten here: gifts are forgotten by the taker first."""
FORGET_MS = 300_000
TIDY_MS = 10_000
LIMITS_MAX = 20_000
PEERS_MAX = 64
ROWS_PER_TICK_MAX = 2_000


class Fleet:
    """The limits that this instance knows of, its own calls and those of the others."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.size = 1
        self.rank = 0
        self.view = 0
        """Changes whenever somebody joins or dies."""
        self.trusted_until_ms = -1
        self.careful_until_ms = -1
        """After being out of touch: until all have said what they did meanwhile."""
        self.urgent = False
        """Somebody is short of rights that others have: tick now."""
        self.overflows = 0
        self.generation = 0
        """Changes whenever limits are forgotten: a Quota found before may be one of them."""
        self._seq = 0
        self._hello = True
        self._beat_ms = -BEAT_MS
        self._tidy_ms = 0
        self._quotas: dict[str, Quota] = {}
        self._peers: dict[str, Peer] = {}
        self._news: dict[Quota, None] = {}
        self._needy: dict[Quota, None] = {}
        self._refreshes: deque[tuple[int, Quota]] = deque()

    def __len__(self) -> int:
        return len(self._quotas)

    def quota(self, quota_id: str, limit: int, now_ms: int) -> Quota:
        """The state of a limit by policy, made when it is not known yet."""
        found = self._quotas.get(quota_id)
        if found is None:
            return self._make(quota_id, limit, now_ms)
        found.set_limit(limit)
        return found

    def _make(self, quota_id: str, limit: int, now_ms: int) -> Quota:
        if len(self._quotas) >= LIMITS_MAX:
            self._make_room()
        made = self._quotas[quota_id] = Quota(quota_id, limit, self, now_ms)
        return made

    def _make_room(self) -> None:
        """More limits are in use than are kept: the longest unused tenth begins anew."""
        self.overflows += 1
        oldest = sorted(self._quotas.values(), key=lambda quota: quota.touched_ms)
        self._forget(oldest[: max(1, LIMITS_MAX // 10)])

    def _forget(self, quotas: Iterable[Quota]) -> None:
        for quota in quotas:
            del self._quotas[quota.id]
            self._news.pop(quota, None)
            self._needy.pop(quota, None)
            quota.queued = False
            quota.gone = True
        self.generation += 1

    def used(self, quota: Quota) -> None:
        """A limit has news: it was used, or a call was refused under it."""
        if not quota.gone:
            self._news[quota] = None

    # ---- hearing -------------------------------------------------------------------------------------

    def heard(self, news: News, now_ms: int) -> None:
        """What an instance says, this one included."""
        if news.instance == self.me:
            self._trust(news.at_ms, now_ms)
            return
        peer = self._peers.get(news.instance)
        if peer is None:
            if len(self._peers) >= PEERS_MAX or news.leaving:
                return
            peer = Peer(instance=news.instance, offset_ms=now_ms - news.at_ms, heard_ms=now_ms, alive=False)
            self._peers[news.instance] = peer
        if news.seq > peer.seq:
            peer.seq, peer.offset_ms, peer.heard_ms = news.seq, now_ms - news.at_ms, now_ms
            if peer.alive == news.leaving:
                peer.alive = not news.leaving
                self._changed()
        for row in news.rows:
            self._row(peer, row, news.seq, now_ms)
        if news.hello:
            self.say_all()
            self._beat_ms = now_ms - BEAT_MS  # an answer is due even if there is nothing to tell
            self.urgent = True

    def _row(self, peer: Peer, row: Row, seq: int, now_ms: int) -> None:
        quota = self._quotas.get(row.id)
        if quota is None:
            if not row.id or row.id[-1] not in "rtp" or not (row.amounts or row.wants or row.gave):
                return
            quota = self._make(row.id, row.limit, now_ms)
        elif not quota.news and not quota.own.total(now_ms):
            quota.set_limit(row.limit)  # whoever uses it knows its policy better
        quota.heard(peer, row, seq, now_ms)
        if row.wants > 0:
            self._needy[quota] = None
            self.urgent = self.urgent or (quota.room(now_ms) > 0 and quota.free(now_ms) > 0)

    def _trust(self, at_ms: int, now_ms: int) -> None:
        """A message of our own came back: what was said at that time has reached everybody who listens."""
        if now_ms > self.trusted_until_ms:
            if self.trusted_until_ms >= 0:
                self.careful_until_ms = now_ms + DEAD_MS
            for peer in self._peers.values():
                if peer.alive:
                    peer.heard_ms = max(peer.heard_ms, now_ms)
        self.trusted_until_ms = max(self.trusted_until_ms, at_ms + DEAD_MS)

    def _changed(self) -> None:
        living = sorted([self.me, *(peer.instance for peer in self._peers.values() if peer.alive)])
        self.size, self.rank = len(living), living.index(self.me)
        self.view += 1

    # ---- saying --------------------------------------------------------------------------------------

    def say_all(self) -> None:
        """Somebody knows nothing yet, or we were away: tell everything that still counts."""
        for quota in self._quotas.values():
            if quota.said or quota.news:
                quota.whole = True
                self._news[quota] = None

    def again(self) -> None:
        """The connection was made anew: introduce ourselves again."""
        self._hello = True
        self.say_all()

    def tick(self, now_ms: int) -> list[News]:
        """The messages that are due now; none when there is nothing to say."""
        self.urgent = False
        self._bury()
        if now_ms - self._tidy_ms >= TIDY_MS:
            self._tidy(now_ms)
        self._repeat(now_ms)
        self._give(now_ms)
        rows: list[Row] = []
        while self._news and len(rows) < ROWS_PER_TICK_MAX:
            quota = next(iter(self._news))
            del self._news[quota]
            quota.room(now_ms)
            rows.append(quota.row(now_ms))
            if not quota.queued:
                quota.queued = True
                self._refreshes.append((now_ms + REFRESH_MS, quota))
        if not rows and not self._hello and now_ms - self._beat_ms < BEAT_MS:
            return []
        self._beat_ms = now_ms
        return [
            self._message(tuple(rows[at : at + ROWS_PER_MESSAGE_MAX]), now_ms)
            for at in range(0, max(1, len(rows)), ROWS_PER_MESSAGE_MAX)
        ]

    def _message(self, rows: tuple[Row, ...], now_ms: int) -> News:
        self._seq += 1
        hello, self._hello = self._hello, False
        return News(instance=self.me, seq=self._seq, at_ms=now_ms, rows=rows, hello=hello)

    def leave(self, now_ms: int) -> list[News]:
        """The last words: all figures, and that they are the last."""
        said = self.tick(now_ms)
        self._seq += 1
        return [*said, News(instance=self.me, seq=self._seq, at_ms=now_ms, leaving=True)]

    def _give(self, now_ms: int) -> None:
        for quota in list(self._needy):
            gave, wanted = quota.give(now_ms)
            if gave:
                self._news[quota] = None
            if not wanted:
                del self._needy[quota]

    def _repeat(self, now_ms: int) -> None:
        """Say again what others may have lost, for as long as it counts for anybody."""
        while self._refreshes and self._refreshes[0][0] <= now_ms:
            _, quota = self._refreshes.popleft()
            if not quota.queued:
                continue
            quota.queued = False
            told = quota.gave or quota.own.known  # what was taken back is said again too: others may have missed it
            if quota.own.total(now_ms) or (told and now_ms - quota.touched_ms < QUIET_MS):
                quota.whole = True
                self._news[quota] = None

    def _bury(self) -> None:
        """Whoever was silent too long while our own messages came through shares no more."""
        echo_ms = self.trusted_until_ms - DEAD_MS
        dead = [peer for peer in self._peers.values() if peer.alive and echo_ms - peer.heard_ms > DEAD_MS]
        for peer in dead:
            peer.alive = False
        if dead:
            self._changed()

    def _tidy(self, now_ms: int) -> None:
        """Forget limits that nobody uses and instances that will not come back."""
        self._tidy_ms = now_ms
        gone = {peer.instance for peer in self._peers.values() if not peer.alive and now_ms - peer.heard_ms > GONE_MS}
        for name in gone:
            del self._peers[name]
        for quota in self._quotas.values():
            quota.tidy(gone, now_ms)
        idle = [quota for quota in self._quotas.values() if now_ms - quota.touched_ms > FORGET_MS]
        if idle:
            self._forget(idle)
