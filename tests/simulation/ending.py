"""The end of a run: everything heals, demand stops, and what is left must be nothing."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from services.ledger.domain.fold import fold_auth, fold_correction, fold_grants, fold_usage
from services.ledger.domain.state import Balance, LedgerState
from shared.events import AccountWindow, GrantBatch, UsageCorrected
from shared.windows import window_at, window_of_index
from tests.simulation.agenda import true_now
from tests.simulation.network import Weather
from tests.simulation.oracle import claim

if TYPE_CHECKING:
    from tests.simulation.logs import Logs
    from tests.simulation.world import World

Figures = dict[tuple[str, int], tuple[int, int, int, int, tuple[str, ...]]]
"""By account and window: spent, escrow, presumed, overdraft and the names of the crossings."""


def heal(world: World) -> None:
    """All machines up, all links whole, every journal that can be found is recovered."""
    world.net.cuts.clear()
    world.net.weather = Weather()
    for enforcer in world.enforcers:
        enforcer.slow.clear()
        enforcer.held.clear()
        enforcer.resume()
        if not enforcer.alive:
            enforcer.start()
    for proxy in world.proxies:
        proxy.resume()
        if proxy.alive and proxy.stopping:
            proxy.crash()
        if not proxy.alive:
            proxy.start()


def recover_all(world: World) -> None:
    """Every journal without an owner finds one."""
    for journal in list(world.journals.values()):
        if not journal.locked_by and not journal.lost and not journal.done:
            world.random.choice(world.proxies).recover(journal, again=world.random.random() < 0.3)


def conclude(world: World) -> None:
    """Let everything come to rest, then check what is left. Raises Violation."""
    terms = world.profile.terms
    heal(world)
    recover_all(world)
    world.run(terms.max_call_ms + 2_000)
    recover_all(world)
    world.run(5_000)
    lost = [name for name, journal in world.journals.items() if journal.lost and not journal.locked_by]
    if lost:
        world.run(1.002 * (terms.lease_ms + terms.max_call_ms) + terms.margin_ms + 5_000)
    world.run(10_000)
    for enforcer in world.enforcers:
        enforcer.read_auth(len(world.logs.auth))
        for log in ("usage", "grants") if enforcer.split else ("usage",):
            enforcer.read_ledger(log, len(world.logs.ledger))
    world.oracle.finish()
    check_nothing_leaks(world, set(lost))
    check_folds(world)
    check_signals(world)
    check_levels(world)


def check_nothing_leaks(world: World, lost: set[str]) -> None:
    """No escrow is left, and presumed spend only for journals that nobody found."""
    oracle = world.oracle
    for window in oracle.over:
        for (instance, serial), lot in oracle.over[window].items():
            being = oracle.beings[instance]
            if being.final or not lot.out:
                continue
            if being.charged is not None:
                claim(instance in lost, "presumed spend of an instance that was recovered", instance, lot)
                continue
            claim(False, "LEAK: escrow is left", window, instance, serial, lot, instance in lost)
    for name, journal in world.journals.items():
        being = oracle.beings.get(name)
        claim(journal.lost or not journal.opens or journal.locked_by != "", "a journal was not recovered", name)
        if journal.done and being is not None:
            claim(being.final, "an instance was closed and did not end", name, being.last_n, being.floor)
    for proxy in world.proxies:
        for life in proxy.lives.values():
            claim(not life.calls, "calls still run", life.instance, len(life.calls))
            claim(not life.waiting, "callers still wait", life.instance, list(life.waiting.values())[:3])


def never_published(world: World) -> Counter[AccountWindow]:
    """Cost that only journals know of which nobody found."""
    missing: Counter[AccountWindow] = Counter()
    for name, journal in world.journals.items():
        being = world.oracle.beings.get(name)
        for event in journal.events if journal.lost else ():
            if being is None or (event.n > being.floor and event.n not in being.seen):
                missing.update(dict.fromkeys(event.windows, event.cost_nusd))
    return missing


def figures(state: LedgerState) -> Figures:
    """All balances that say something."""
    empty = Balance()
    return {
        (name, index): (
            balance.spent,
            balance.escrow,
            balance.presumed,
            balance.overdraft,
            tuple(sorted(balance.crossed)),
        )
        for name, account in state.accounts.items()
        for index, balance in account.windows.items()
        if balance != empty and (balance.spent or balance.escrow or balance.presumed or balance.overdraft)
    }


def refold(logs: Logs, order: str, random: Random) -> LedgerState:
    """All three logs anew, in another interleaving: `GUA` is decisions, then usage, then auth; `?` by chance."""
    state = LedgerState(partition=0)
    messages = list(enumerate(logs.ledger, 1))
    queues = {
        "A": list(enumerate([decree.event for decree in logs.auth], 1)),
        "U": [entry for entry in messages if not isinstance(entry[1], GrantBatch)],
        "G": [entry for entry in messages if isinstance(entry[1], GrantBatch)],
    }
    if order == "?":
        turns = [kind for kind, queue in queues.items() for _ in queue]
        random.shuffle(turns)
    else:
        turns = [kind for kind in order for _ in queues[kind]]
    heads = {kind: iter(queue) for kind, queue in queues.items()}
    for kind in turns:
        seq, message = next(heads[kind])
        if kind == "A":
            fold_auth(state, message, seq)  # pyright: ignore[reportArgumentType]
        elif isinstance(message, GrantBatch):
            fold_grants(state, message, seq)
        elif isinstance(message, tuple):
            for event in message:
                if isinstance(event, UsageCorrected):
                    fold_correction(state, event)
                else:
                    fold_usage(state, event)
    return state


def check_folds(world: World) -> None:
    """Three other interleavings, the enforcers themselves and the oracle agree (R7)."""
    folds = {order: figures(refold(world.logs, order, world.random)) for order in ("GUA", "UAG", "AGU", "?")}
    first = folds["GUA"]
    for order, found in folds.items():
        claim(found == first, "FOLDS DIFFER", order, _difference(first, found))
    unpublished = never_published(world)
    for (account, index), (spent, escrow, presumed, _, _) in first.items():
        window = AccountWindow(account, index)  # pyright: ignore[reportArgumentType]
        held = world.oracle.held(window)
        claim(spent == world.oracle.spent[window], "the fold and the oracle differ in spend", window, spent)
        claim(escrow + presumed == held, "the fold and the oracle differ in escrow", window, escrow, presumed, held)
        known = world.truth.finished[window] - unpublished[window]
        claim(spent == known, "spend differs from what calls cost", window, spent, known)
    for enforcer in world.enforcers:
        found = figures(enforcer.state)
        for place, figure in found.items():  # old windows may be forgotten there, or what was presumed in them
            other = first.get(place, figure)
            over = figure[:2] == other[:2] and _is_over(world, *place)
            # cost that comes after its allotment was forgotten is spend, and no longer told as overdraft
            late = figure[:3] == other[:3] and figure[3] <= other[3]
            same = figure == other or over or late
            claim(same, "an enforcer's balance differs", enforcer.name, enforcer.split, place, figure, other)


def _is_over(world: World, account: str, index: int) -> bool:
    end = window_of_index(world.oracle.budgets[account].window, index).end
    return end is not None and end < true_now(world.agenda)


def _difference(one: Figures, other: Figures) -> list[object]:
    return [(place, one.get(place), other.get(place)) for place in {*one, *other} if one.get(place) != other.get(place)]


def check_signals(world: World) -> None:
    """Every crossing in the log was told, and each under one id."""
    told = {(window.account, window.index, threshold, round_) for window, threshold, round_ in world.oracle.told}
    for window, threshold, round_ in world.oracle.crossed:
        name = (window.account, window.index, threshold, round_)
        claim(name in told, "a crossing was never told", name)
    claim(len(world.signals) == len(set(world.signals.values())), "one crossing has two ids")


def check_levels(world: World) -> None:
    """What the bucket shows to all proxies is how things stand."""
    now = true_now(world.agenda)
    for found in world.estate.budgets():
        level, limit = world.levels.get(found.account), found.limit_at(now)
        window = AccountWindow(found.account, window_at(found.window, now).index)
        used = world.oracle.spent[window] + world.oracle.presumed(window)
        if level is not None and level.window_index > window.index:
            continue  # the enforcer's clock is ahead
        if level is None or level.state == "open":
            spent_up = limit is not None and used >= limit and used > 0
            claim(not spent_up, "an exhausted budget is shown as open", found, level, used)
        elif level.state == "exhausted" and level.window_index == window.index:
            claim(
                limit is not None and used + level.least > limit, "a level refuses what would fit", level, used, limit
            )
        elif level.state == "exhausted":
            claim(level.until_s is not None and level.until_s <= now.timestamp(), "a level of another window", level)
