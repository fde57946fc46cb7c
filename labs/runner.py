"""What the commands of ``python -m labs`` do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from labs.commands import Commands
from labs.errors import CommandFailed, LabError
from labs.finding import Finding, are_all_right, wrong
from labs.lab import Exercise, Lab, Place, Shop, lab_named
from labs.local import LocalShop
from labs.meshed import MeshedShop
from labs.progress import Attempt, name_of, read_progress, write_progress
from labs.readme import FORMS, Language, answers_last, at_gateway, for_place, with_browser
from labs.report import Passed, Report, line_of, publish
from services.common.clock import now_ms
from tools.mesh import render
from tools.mesh.readme import rewritten

Say = Callable[[str], None]

NOT_PASSED = 1

_LOOK_AGAIN_SECONDS = 3.0
_BROKEN_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Work(Generic[Shop]):
    """A lab's exercise, and the shop that it is done with."""

    exercise: Exercise[Shop]
    shop: Shop

    async def start(self) -> None:
        """Brings the shop into the first state."""
        await self.exercise.start(self.shop)

    async def solve(self) -> None:
        """Does what the lab asks for."""
        await self.exercise.solve(self.shop)

    async def check(self) -> Sequence[Finding]:
        """Everything that a check finds. What stops it is the last of its findings where something
        is known to be wrong.

        :raises LabError: it stops, and until then it has found nothing wrong.
        """
        findings: list[Finding] = []
        try:
            async for finding in self.exercise.check(self.shop):
                findings.append(finding)  # noqa: PERF401  a comprehension that stops loses them
        except LabError as error:
            if all(each.is_right for each in findings):
                raise
            why = " ".join(str(error).split()).rstrip(".")
            findings.append(
                wrong(f"the check stops here: {why}", "the wrong lines above, and fix those first")
            )
        return findings


AnyWork = Work[LocalShop] | Work[MeshedShop]


@dataclass(frozen=True, slots=True)
class Runner:
    """The labs of one user.

    :ivar shop_of: the shop that the options of ``tools.mesh render`` describe.
    :ivar settle_seconds: for how long a check looks again, instead of what the exercise says.
    :ivar language: of the hand-outs that it names. It speaks English itself.
    """

    labs: Sequence[Lab]
    file: Path
    commands: Commands
    shop_of: Callable[[Sequence[str]], render.Shop]
    say: Say
    settle_seconds: float | None = None
    language: Language = "en"

    def list_labs(self) -> None:
        """Lists the labs, each with its minutes, its places and where it is passed."""
        progress = read_progress(self.file)
        for lab in self.labs:
            where = ", ".join(
                f"{place} (passed)" if name_of(lab.name, place) in progress.passed else place
                for place in lab.places
            )
            self.say(f"{lab.number}  {lab.readme.title}, {lab.readme.minutes} minutes: {where}")
        self.say("Start one: .venv/bin/python -m labs start 00, or start 03 --mesh istio")

    async def start(self, given: str, mesh: Place | None, options: Attempt) -> None:
        """Starts a lab, instead of one that is under way.

        :param options: where the shop is; its lab is not looked at, its place only in a class.
        """
        lab = lab_named(self.labs, given)
        place = _place(lab, mesh, options)
        progress = read_progress(self.file)
        before = progress.under_way
        attempt = options.model_copy(update={"lab": lab.name, "place": place})
        if before is not None and before.place == "local":
            if place == "local" and before.data == attempt.data:
                attempt.shop_pid = before.shop_pid
            else:
                await self._reset(before)  # a shop that the labs have started there would stay
        self.say(f"{lab.number} {lab.readme.title}: bringing the shop into its first state ...")
        work = self._work(lab, attempt)
        try:
            await work.start()
        finally:
            self._remember(attempt, work)
        attempt.started_ms = now_ms()
        self._remember(attempt)
        await self._report(attempt)
        work = self._work(lab, attempt)
        self.say("Waiting until the first state has taken effect ...")
        await self._until_wrong(work, attempt)
        self.say(str(work.shop))
        self.say(f"Begin with {self._hand_out(lab, attempt)}; then: check, hint, solve, reset.")

    async def check(self, given: str | None) -> int:
        """Says what is right and what is wrong. Returns the exit status: 0 when all is right."""
        lab, attempt = self._under_way(given)
        work = self._work(lab, attempt)
        findings = await self._judged(work)
        for finding in findings:
            self.say(str(finding))
        attempt.checks += 1
        is_passed = are_all_right(findings)
        if is_passed:
            if not attempt.is_passed:  # of several checks that pass, the first one counts
                self._note_passed(lab, attempt)
            attempt.is_passed = True
            self.say(f"Lab {lab.number} is passed. Take it back: .venv/bin/python -m labs reset")
        else:
            self.say("Not yet. A hint: .venv/bin/python -m labs hint")
        self._remember(attempt, work)
        await self._report(attempt, findings)
        return 0 if is_passed else NOT_PASSED

    def hint(self, given: str | None) -> None:
        """Says the next hint, or the last one again."""
        lab, attempt = self._under_way(given)
        hints = lab.hints_in(attempt.place)
        if attempt.place != "local":
            options = attempt.mesh_options
            hints = [rewritten(hint, self.shop_of(options), options) for hint in hints]
        attempt.hints = min(attempt.hints + 1, len(hints))
        self.say(f"Hint {attempt.hints} of {len(hints)}: {hints[attempt.hints - 1]}")
        if attempt.hints == len(hints):
            self.say("There are no more. To see it done: .venv/bin/python -m labs solve")
        self._remember(attempt)

    async def solve(self, given: str | None) -> None:
        """Does what the lab asks for."""
        lab, attempt = self._under_way(given)
        attempt.was_solved = True
        work = self._work(lab, attempt)
        await work.solve()
        self._remember(attempt, work)
        await self._report(attempt)
        self.say(
            f"Lab {lab.number} is solved; {self._hand_out(lab, attempt)} explains why. "
            "See it: .venv/bin/python -m labs check"
        )

    async def reset(self, mesh: Place | None, options: Attempt) -> None:
        """Takes the lab under way back, or with a mesh brings that one's base back."""
        progress = read_progress(self.file)
        attempt = progress.under_way
        if mesh is not None:
            attempt = options.model_copy(update={"place": mesh})
        elif attempt is None and options.is_in_class:
            attempt = options
        if attempt is None:
            raise LabError(
                "No lab is under way; to bring the base of a mesh back: "
                ".venv/bin/python -m labs reset --mesh istio"
            )
        began = time.monotonic()
        self.say("Bringing the shop back to the state before the labs ...")
        for line in await self._reset(attempt):
            self.say(line)
        progress.under_way = None
        write_progress(self.file, progress)
        await self._report(attempt.model_copy(update={"lab": ""}))
        self.say(
            f"Everything is as it was before the labs (after {time.monotonic() - began:.0f} s)."
        )

    def readme(self, given: str, mesh: Place | None, options: Attempt) -> None:
        """Says what a lab's hand-out says, with the commands for the shop that the options
        describe, and the answers to its questions at the end.
        """
        lab = lab_named(self.labs, given)
        place = _place(lab, mesh, options)
        text = (lab.folder / FORMS[self.language].file).read_text(encoding="utf-8")
        if place == "local":
            text = for_place(text, place)
        else:
            shop = self.shop_of(options.mesh_options)
            text = at_gateway(for_place(text, place), options.gateway_address)
            text = with_browser(text, options.gateway_address, self.language)
            text = rewritten(text, shop, options.mesh_options)
        self.say(answers_last(text, self.language))

    def progress(self) -> None:
        """Says what is passed, and what is under way."""
        progress = read_progress(self.file)
        attempt = progress.under_way
        if attempt is not None:
            minutes = (now_ms() - attempt.started_ms) / 60_000
            self.say(
                f"Under way: {name_of(attempt.lab, attempt.place)}, for {minutes:.0f} minutes, "
                f"{attempt.checks} checks, {attempt.hints} hints"
            )
        for name, passed in progress.passed.items():
            how = "solved by the runner" if passed.was_solved else "passed"
            self.say(
                f"{name}: {how} after {passed.minutes:.0f} minutes, {passed.checks} checks, "
                f"{passed.hints} hints"
            )
        if attempt is None and not progress.passed:
            self.say("Nothing yet. Begin: .venv/bin/python -m labs start 00")

    def _hand_out(self, lab: Lab, attempt: Attempt) -> str:
        if attempt.is_in_class and attempt.place != "local":
            return f".venv/bin/python -m labs readme {lab.number}"
        return f"labs/{lab.name}/{FORMS[self.language].file}"

    def _under_way(self, given: str | None) -> tuple[Lab, Attempt]:
        attempt = read_progress(self.file).under_way
        if attempt is None:
            raise LabError("No lab is under way: .venv/bin/python -m labs start 00 begins one.")
        if given is not None and lab_named(self.labs, given).name != attempt.lab:
            raise LabError(
                f"Under way is {name_of(attempt.lab, attempt.place)}: "
                f".venv/bin/python -m labs start {given} begins another one in its place."
            )
        return lab_named(self.labs, attempt.lab), attempt

    async def _until_wrong(self, work: AnyWork, attempt: Attempt) -> None:
        """Waits until the proxies know the first state, in which every check finds something."""
        until = time.monotonic() + _BROKEN_SECONDS
        while are_all_right(await work.check()):
            if time.monotonic() > until:
                raise LabError(
                    f"The first state of {attempt.lab} does not take effect: start it again."
                )
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _judged(self, work: AnyWork) -> Sequence[Finding]:
        """Returns what a check finds, once a change of a moment ago has reached all processes.

        Each look is another chance for a wrong share of requests to look right. So when an earlier
        look has found something wrong, two looks in a row must find nothing.
        """
        seconds = work.exercise.settle_seconds
        if self.settle_seconds is not None:
            seconds = self.settle_seconds
        until = time.monotonic() + seconds
        findings = await work.check()
        if not are_all_right(findings) and seconds:
            self.say(f"Not right yet. Looks again for {seconds:.0f} s: a change takes a moment ...")
        while not are_all_right(findings) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            findings = await work.check()
            if are_all_right(findings):
                findings = await work.check()
        return findings

    async def _reset(self, attempt: Attempt) -> Sequence[str]:
        """Returns what is left to say."""
        if attempt.place != "local":
            await self._meshed(attempt).restore()
            return ()
        shop = self._local(attempt)
        await shop.stop()
        state = shop.state()
        if state is None:
            return ()
        return [f"The shop with pid {state.parent_pid} goes on: it was not started by the labs."]

    def _work(self, lab: Lab, attempt: Attempt) -> AnyWork:
        if attempt.place == "local":
            assert lab.local is not None, lab
            return Work(lab.local, self._local(attempt))
        assert lab.meshed is not None, lab
        return Work(lab.meshed, self._meshed(attempt))

    def _local(self, attempt: Attempt) -> LocalShop:
        return LocalShop(
            attempt.data,
            ports=attempt.ports,
            own_pid=attempt.shop_pid,
            since_ms=attempt.started_ms,
        )

    def _meshed(self, attempt: Attempt) -> MeshedShop:
        where = self.shop_of(attempt.mesh_options)
        return MeshedShop(
            self.commands, where, gateway_address=attempt.gateway_address, seed=attempt.seed
        )

    def _note_passed(self, lab: Lab, attempt: Attempt) -> None:
        progress = read_progress(self.file)
        progress.passed[name_of(lab.name, attempt.place)] = Passed(
            minutes=(now_ms() - attempt.started_ms) / 60_000,
            checks=attempt.checks,
            hints=attempt.hints,
            was_solved=attempt.was_solved,
        )
        write_progress(self.file, progress)

    async def _report(self, attempt: Attempt, findings: Sequence[Finding] | None = None) -> None:
        """Publishes a report for the teacher's board, in a class."""
        if not attempt.is_in_class:
            return
        report = Report(
            lab=attempt.lab,
            place=attempt.place,
            started_ms=attempt.started_ms,
            seed=attempt.seed,
            checks=attempt.checks,
            hints=attempt.hints,
            was_solved=attempt.was_solved,
            checked_ms=None if findings is None else now_ms(),
            lines=[line_of(each) for each in findings or ()],
            passed=read_progress(self.file).passed,
        )
        try:
            await publish(self.commands, self.shop_of(attempt.mesh_options).namespace, report)
        except CommandFailed as error:
            self.say(f"The report for the teacher's board was not written: {error}")

    def _remember(self, attempt: Attempt, work: AnyWork | None = None) -> None:
        progress = read_progress(self.file)
        if work is not None and isinstance(work.shop, LocalShop):
            attempt.shop_pid = work.shop.own_pid
        progress.under_way = attempt
        write_progress(self.file, progress)


def _place(lab: Lab, mesh: Place | None, options: Attempt) -> Place:
    """Where to do a lab.

    :raises LabError: not there, or it has to be said.
    """
    if mesh is None and options.is_in_class and options.place in lab.places:
        mesh = options.place
    if options.is_in_class and lab.changes_the_gateway:
        raise LabError(
            f"Lab {lab.number} changes the gateway, which all of your class come in by: it is for "
            "a cluster of your own."
        )
    if mesh is not None and mesh not in lab.places:
        raise LabError(f"Lab {lab.number} is not in {mesh.capitalize()}: {lab.why_not(mesh)}.")
    if mesh is None and "local" not in lab.places:
        ways = " or ".join(f"--mesh {place}" for place in lab.places)
        raise LabError(f"Lab {lab.number} needs a mesh; say which: {ways}")
    return mesh or "local"
