# SPDX-License-Identifier: Apache-2.0
"""The faults that `tools/mutants.py` plants, each an exact replacement of text in one file, and the tests that must
find it. Faults of the engine need a build each, those of Python none.
"""

from __future__ import annotations

from typing import NamedTuple

TASKS, ANSWERS = "swd/_engine_tasks.pxi", "swd/_engine_answers.pxi"
RECEIVING, CHANGES = "swd/_engine_receiving.pxi", "swd/_engine_changes.pxi"
PUMP, QUEUE, LOOPQUEUE = "swd/_fastpath_turns.pxi", "swd/_asyncqueue.pyx", "swd/iscsi/loopqueue.py"
COMPILED, FRAMING = "swd/target/compiled.py", "swd/target/framing.py"
LOGIN, CHAP, AUTH = "swd/proto/login.py", "swd/proto/chap.py", "swd/proto/authentication.py"
TEXT, NEGOTIATE, KEYS = "swd/proto/text.py", "swd/proto/negotiate.py", "swd/proto/keys.py"
NAMES, PORTAL, FSM = "swd/proto/names.py", "swd/proto/portal.py", "swd/proto/fsm.py"
CONNECTION, SESSION, TEXTUAL = "swd/iscsi/connection.py", "swd/iscsi/session.py", "swd/iscsi/textual.py"
DISCOVERY, RECOVERY, REINSTATE = "swd/iscsi/discovery.py", "swd/proto/recovery.py", "swd/iscsi/reinstate.py"


class Mutant(NamedTuple):
    """A fault by its name; the texts to replace, each of which stands once in the file; the tests by their places."""

    name: str
    file: str
    texts: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def _hostile(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tuple(f"tests/hostile/test_hostile_{test}.py" for test in tests))


def _demand(name: str, condition: str, *tests: str) -> Mutant:
    """A check of a login response that passes everything."""
    return _hostile(f"login: {name}", LOGIN, f"_demand({condition},", f"_demand(True or ({condition}),", *tests)


DATA = (  # what guards data in the engine, held by the engine's own tests
    Mutant(
        "StatSN off by one",
        ANSWERS,
        (("if stat_sn != self.exp_stat_sn:", "if stat_sn - self.exp_stat_sn > 1:"),),
        ("tests/engine",),
    ),
    Mutant(
        "data digest skipped",
        RECEIVING,
        (("        if crc != get_digest(source + pad):", "        if crc != crc:"),),
        ("tests/engine",),
    ),
    Mutant(
        "R2T offset wrapped",
        ANSWERS,
        (("<uint64_t>offset + length > task.out_len:", "<uint32_t>(offset + length) > task.out_len:"),),
        ("tests/engine",),
    ),
    Mutant(
        "ITT reuse",
        TASKS,
        (("self.tasks[slot].itt != itt or self.tasks[slot].state == FREE", "self.tasks[slot].state == FREE"),),
        ("tests/engine",),
    ),
    Mutant(
        "residual ignored",
        ANSWERS,
        (
            ("if task.underflow and task.residual != missing:", "if False:"),
            ("if not task.underflow or task.residual < missing:", "if not task.underflow:"),
        ),
        ("tests/engine",),
    ),
    Mutant(
        "progress ignored",
        TASKS,
        (("    task.deadline = min(now + task.timeout, task.limit)", "    task.limit = min(now, task.limit)"),),
        ("tests/engine",),
    ),
    Mutant(
        "progress without end",
        TASKS,
        (("    task.deadline = min(now + task.timeout, task.limit)", "    task.deadline = now + task.timeout"),),
        ("tests/engine",),
    ),
    Mutant(
        "a closed window waited for without end",
        CHANGES,
        (("self.tasks[i].deadline = now + MOST_EXTENSION * self.tasks[i].timeout", "pass"),),
        ("tests/engine",),
    ),
)

HOSTILE_LOGIN = (
    _demand("version", "response.version_active == 0", "login"),
    _demand("ISID", "response.isid == asked.isid", "login"),
    _demand("CSG", "response.csg == asked.csg", "login"),
    _demand("T and C", "not (response.transit and response.continued)", "login", "text"),
    Mutant(  # either check alone finds a T that was not asked for, since NSG is 0 then
        "login: T unasked",
        LOGIN,
        (
            ("_demand(asked.transit or not response.transit,", "_demand(True,"),
            ("_demand(not response.transit or response.nsg == asked.nsg,", "_demand(True,"),
            ("_demand(self._authentication.done,", "_demand(True,"),
        ),
        ("tests/hostile/test_hostile_chap.py", "tests/hostile/test_hostile_login.py"),
    ),
    _demand("NSG", "not response.transit or response.nsg == asked.nsg", "login"),
    _demand("StatSN", "self._exp_stat_sn in (None, response.stat_sn)", "login"),
    _demand("TSIH changes", "not self._tsih or response.tsih in (0, self._tsih)", "login"),
    _demand("TSIH 0", "response.tsih != 0", "login"),
    _demand("window", "window >= -1", "login"),
    Mutant(
        "login: piece answered",
        LOGIN,
        (("_demand(not (data or response.transit or response.continued),", "_demand(True,"),),
        ("tests/proto/test_login.py",),
    ),
    _hostile("login: task tag", LOGIN, "if response.itt != asked.itt:", "if False:", "login"),
    _hostile("login: rounds", LOGIN, "if self._exchanges > MAX_EXCHANGES:", "if False:", "floods"),
    _hostile(
        "login: a status is success", LOGIN, "if response.status_class != SUCCESS:", "if False:", "login", "redirect"
    ),
    _hostile("login: segment length", CONNECTION, "length > _MAX_LOGIN_SEGMENT", "False", "login", "floods"),
    _hostile("login: hops", CONNECTION, "range(MAX_REDIRECTS + 1)", "range(MAX_REDIRECTS + 400)", "redirect"),
)

HOSTILE_CHAP = (
    Mutant(
        "CHAP: reflected challenge",
        CHAP,
        (
            (
                'matches(challenge, self._challenge):\n            raise AuthenticationFailed("the target',
                'False:\n            raise AuthenticationFailed("the target',
            ),
        ),
        ("tests/proto/test_chap.py",),
    ),
    Mutant(
        "CHAP: reflected response",
        CHAP,
        (("if matches(proof, self._response):", "if False:"),),
        ("tests/proto/test_chap.py",),
    ),
    _hostile(
        "CHAP: proof",
        CHAP,
        "if not matches(proof, response(self.algorithm, self._identifier, secret, self._challenge)):",
        "if False:",
        "chap",
    ),
    _hostile(
        "CHAP: no proof",
        CHAP,
        'if "CHAP_N" not in answer or "CHAP_R" not in answer or self.algorithm is None:\n            raise',
        'if "CHAP_R" not in answer:\n            return\n        if self.algorithm is None:\n            raise',
        "chap",
    ),
    _hostile("CHAP: another name", CHAP, 'and answer["CHAP_N"] != self._chap.target_user', "and False", "chap"),
    _hostile(
        "CHAP: equal secrets",
        CHAP,
        "if chap.target_secret is not None and matches(chap.secret, chap.target_secret):",
        "if False:",
        "chap",
    ),
    _hostile("CHAP: short secret", CHAP, "len(secret) < MIN_SECRET and", "len(secret) < 1 and", "chap"),
    _hostile(
        "CHAP: algorithm not offered",
        CHAP,
        "for name in self._offered if str(BY_NAME[name].number) == number",
        "for name in BY_NAME if str(BY_NAME[name].number) == number",
        "chap",
    ),
    _hostile(
        "CHAP: length of a binary",
        CHAP,
        "        if not 0 < len(data) <= limit:".strip(" "),
        "if not 0 < len(data):",
        "chap",
    ),
    _hostile("CHAP: identifier", CHAP, "if number <= 255:", "if number <= 999:", "chap"),
    _hostile("CHAP: odd hex", CHAP, "len(body) % 2 == 0 and ", "", "chap"),
    _hostile("auth: None for CHAP", AUTH, 'and "None" in self._offer.split(",")', "and True", "chap"),
    _hostile(
        "auth: done at the challenge",
        AUTH,
        "            self._state = _State.PROOF\n",
        '            self._finish("chap")\n',
        "chap",
    ),
)

HOSTILE_TEXT = (
    _hostile("text: budget", TEXT, "if self._size > self._budget:", "if False:", "floods", "text"),
    Mutant(
        "text: PDUs",
        TEXT,
        (("if continued and len(self._pieces) >= self._exchanges:", "if False:"),),
        ("tests/proto/test_text.py",),
    ),
    _hostile("text: cut off", TEXT, "if body and len(body) == len(data):", "if False:", "text"),
    _hostile("text: no equals sign", TEXT, "    if not equals:", "    if False:", "text", "names"),
    _hostile("text: key names", TEXT, "    if not _KEY.fullmatch(key):", "    if False:", "text"),
    _hostile(
        "text: UTF-8",
        TEXT,
        '_fault(value) if value.encode() == raw_value else "is not UTF-8"',
        "_fault(value)",
        "text",
        "names",
    ),
    _hostile("text: length of a value", TEXT, "if len(value.encode()) > MAX_VALUE:", "if False:", "text", "names"),
    _hostile(
        "text: control characters", TEXT, "if not value.isprintable() and any(", "if False and any(", "names", "text"
    ),
    _hostile("text: a key twice", TEXT, "if key in seen and not repeats:", "if False:", "text"),
    _hostile("text: final and continued", TEXTUAL, "            if whole is None:", "            if False:", "text"),
    _hostile("text: breaks off", TEXTUAL, "if answer.header.ttt == RESERVED_TAG:", "if False:", "text"),
    _hostile("text: answers in the middle", TEXTUAL, "if answer.data or answer.header.final:", "if False:", "text"),
)

HOSTILE_VALUES = (
    _hostile(
        "negotiate: twice",
        NEGOTIATE,
        "if key is None or not key.declarative or self._heard[name] != text:",
        "if False:",
        "login",
        "text",
    ),
    _hostile("negotiate: stage", NEGOTIATE, 'key.stage not in (stage, "any")', "False", "login"),
    _hostile(
        "negotiate: digest denied",
        NEGOTIATE,
        '        if text == "None":\n',
        '        if text == "None":\n            return text\n        if text == "None":\n',
        "login",
    ),
    _hostile("negotiate: digest not offered", NEGOTIATE, "        if text in offered:", "        if True:", "login"),
    _hostile(
        "negotiate: widened",
        KEYS,
        'if key.kind in ("min", "and"):\n        return min(left, right)',
        'if key.kind in ("min", "and"):\n        return left',
        "login",
    ),
    _hostile(
        "negotiate: range",
        KEYS,
        "if number is None or not key.low <= number <= key.high:",
        "if number is None:",
        "login",
    ),
    _hostile("negotiate: neither Yes nor No", KEYS, 'if text not in ("Yes", "No"):', "if False:", "login"),
    Mutant(
        "negotiate: FirstBurst over MaxBurst",
        NEGOTIATE,
        (
            (
                'values["FirstBurstLength"], values["MaxBurstLength"]\n',
                'values["FirstBurstLength"], values["FirstBurstLength"]\n',
            ),
        ),
        ("tests/proto/test_negotiate.py",),
    ),
)

HOSTILE_NAMES = (
    _hostile(
        "names: length", NAMES, "if len(name) > MAX_NAME or len(", "if len(name) > 99999 or 99999 < len(", "names"
    ),
    _hostile(
        "names: characters",
        NAMES,
        "if (char not in _ASCII) if char.isascii() else _prohibited(char):",
        "if not char.isascii() and _prohibited(char):",
        "names",
    ),
    _hostile(
        "names: prohibited",
        NAMES,
        "if (char not in _ASCII) if char.isascii() else _prohibited(char):",
        "if char.isascii() and char not in _ASCII:",
        "names",
    ),
    _hostile(
        "names: form", NAMES, "return None if pattern.fullmatch(name) else", "return None if pattern else", "names"
    ),
    _hostile("portal: port", PORTAL, "if 1 <= int(text) <= 65535 else None", "if True else None", "names", "redirect"),
    _hostile("portal: host", PORTAL, "if not _HOST.fullmatch(host):", "if False:", "names", "redirect"),
    _hostile(
        "portal: group tag",
        PORTAL,
        'if not re.fullmatch("[0-9]{1,5}", tag) or int(tag) > 65535:',
        "if not tag.isdigit():",
        "names",
        "redirect",
    ),
    _hostile(
        "SendTargets: out of place",
        DISCOVERY,
        'elif key == "TargetAddress" and found:',
        'elif key == "TargetAddress":\n                found = found or [Target("iqn.2026-01.org.example:x")]',
        "names",
    ),
    _hostile(
        "SendTargets: foreign key",
        DISCOVERY,
        '                raise ProtocolViolation(f"{key} has no',
        '                continue\n                raise ProtocolViolation(f"{key} has no',
        "names",
        "text",
    ),
)

HOSTILE_SESSION = (
    _hostile("session: answer to a ping", SESSION, "        if answer.data != data:", "        if False:", "numbers"),
    _hostile(
        "session: a reject is nothing",
        SESSION,
        "            self._pump.fail(error)\n            self._violated(error)\n            return\n",
        "            return\n",
        "text",
        "floods",
        "numbers",
    ),
    _hostile("recovery: COMPARE AND WRITE again", RECOVERY, "if opcode not in REPLAYABLE:", "if False:", "recovery"),
    _hostile("recovery: replays without end", RECOVERY, "if task.replays >= MAX_REPLAYS:", "if False:", "recovery"),
    Mutant(  # on the wire it depends on which of several reads comes first
        "recovery: poison", RECOVERY, (("losses >= ONE_BY_ONE_FROM", "False"),), ("tests/proto/test_recovery.py",)
    ),
    _hostile("recovery: identity", REINSTATE, "        self._verify()\n", "", "recovery"),
    _hostile("recovery: time", REINSTATE, "            if self._left() <= 0:\n", "            if False:\n", "recovery"),
    _hostile(
        "recovery: a broken protocol is tried again",
        REINSTATE,
        "except (BadDescriptor, ProtocolViolation):",
        "except BadDescriptor:",
        "recovery",
    ),
)

HOSTILE_ENGINE = (
    _hostile("Data-In: DataSN", ANSWERS, "elif get32(bhs + 36) != task.data_sn:", "elif False:", "data_in"),
    _hostile("Data-In: offset", ANSWERS, "elif offset != task.in_done and length:", "elif False:", "data_in"),
    _hostile(
        "Data-In: length",
        ANSWERS,
        "elif <uint64_t>task.in_done + length > task.in_len:",
        "elif <uint64_t>length > task.in_len:",
        "data_in",
    ),
    _hostile(
        "Data-In: on a write",
        ANSWERS,
        "    elif task.in_len == 0:\n        fail(self, DATA_NOT_WANTED",
        "    elif False:\n        fail(self, DATA_NOT_WANTED",
        "data_in",
    ),
    _hostile(
        "Data-In: status without F",
        ANSWERS,
        "elif bhs[1] & 1 and (not bhs[1] & 0x80 or bhs[3] & ~0x14):",
        "elif bhs[1] & 1 and (bhs[3] & ~0x14):",
        "data_in",
    ),
    _hostile(
        "header digest", RECEIVING, "        if crc != get_digest(bhs + BHS):", "        if crc != crc:", "data_in"
    ),
    _hostile("segment too long", RECEIVING, "    if length > self.max_recv:", "    if False:", "data_in", "text"),
    _hostile("AHS of a response", RECEIVING, "    if bhs[4]:\n", "    if False:\n", "data_in", "numbers"),
    _hostile(
        "StatSN", ANSWERS, "    if stat_sn != self.exp_stat_sn:", "    if False:", "data_in", "numbers", "r2t"
    ),
    _hostile(
        "short read",
        ANSWERS,
        "            if missing and not task.underflow:",
        "            if False:",
        "data_in",
        "status",
    ),
    _hostile(
        "short write",
        ANSWERS,
        "            if not task.underflow or task.residual < missing:",
        "            if False:",
        "r2t",
        "status",
    ),
    _hostile("R2T: R2TSN", ANSWERS, "    elif get32(bhs + 36) != task.r2t_sn:", "    elif False:", "r2t"),
    _hostile("R2T: range", ANSWERS, "length == 0 or offset < task.r2t_next or ", "length == 0 or ", "r2t"),
    _hostile("R2T: burst", ANSWERS, "    elif length > self.max_burst:", "    elif False:", "r2t"),
    _hostile("R2T: too many", ANSWERS, "    elif task.r2t_count >= self.max_r2t:", "    elif False:", "r2t"),
    _hostile(
        "R2T: on a read",
        ANSWERS,
        "    elif task.out_len == 0:\n        fail(self, R2T_NOT_WANTED",
        "    elif False:\n        fail(self, R2T_NOT_WANTED",
        "r2t",
    ),
    _hostile(
        "R2T: reserved tag",
        ANSWERS,
        "    elif get32(bhs + 20) == RESERVED:\n        fail(self, R2T_TAG",
        "    elif False:\n        fail(self, R2T_TAG",
        "r2t",
    ),
    Mutant(  # a target that says so still answers the tests' few commands: only the engine's own numbers show it
        "a window that cannot be",
        ANSWERS,
        (("    if serial_before(max_cmd_sn, get32(self.bhs + 28) - 1):", "    if False:"),),
        ("tests/engine/test_window.py",),
    ),
    Mutant(  # callers take events as they come, so that a flood on the wire ends by what it says
        "flood of events",
        ANSWERS,
        (("    if self.event_count == MAX_EVENTS:", "    if False:"),),
        ("tests/engine/test_faults.py",),
    ),
    _hostile(
        "control answer of another kind",
        ANSWERS,
        "task == NULL or task.state != ACTIVE or task.control != opcode:",
        "task == NULL or task.state != ACTIVE:",
        "text",
        "numbers",
    ),
)

_TURNS = "tests/asyncqueue/test_turns.py"
_TROUBLE = "tests/asyncqueue/test_trouble.py"


def _loop(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(f"loop: {name}", file, ((old, new),), tests)


LOOP = (  # an event loop that shares a session with threads
    _loop("not woken at the end of an I/O", PUMP, "        swd_wake(waiter.wake_fd)", "        pass", _TURNS),
    _loop("woken once only", QUEUE, "            self.me.told = False\n", "", _TURNS),
    _loop("descriptor 0", PUMP, "if not waiter.looped:", "if waiter.wake_fd == 0:", _TURNS),
    _loop(
        "what a receive asks for is not sent",
        PUMP,
        "    elif self.waiters != NULL and self.engine.fault_code == OK:",
        "    elif False:",
        _TURNS,
    ),
    _loop(
        "no wake-up for room in the socket", PUMP, "        if self.blocked:\n", "        if False:\n", _TURNS
    ),
    _loop("what the loop receives is not acted on", QUEUE, "pass_role(pump)  #", "pass  #", _TURNS),
    _loop(
        "drop leaves the task its buffer",
        QUEUE,
        "                self.let_go(one.itt)\n",
        "                pass\n",
        _TROUBLE,
    ),
    _loop(
        "an overdue command goes on",
        QUEUE,
        "                self.drop(one)\n                if",
        "                if",
        _TURNS,
    ),
    _loop(
        "a buffer stays pinned",
        QUEUE,
        "            PyBuffer_Release(&self.view)\n\n    def",
        "            pass\n\n    def",
        _TROUBLE,
    ),
    _loop("pending counts what was dropped", QUEUE, "            self.me.pending -= 1", "            pass", _TROUBLE),
    Mutant(
        "loop: a future made last",
        QUEUE,
        (
            ("        one.future = self.new_future()  #", "        #"),
            (
                "        self.entries[one.slot] = one\n",
                "        one.future = self.new_future()\n        self.entries[one.slot] = one\n",
            ),
        ),
        (_TURNS,),
    ),
    _loop(
        "used after its end",
        QUEUE,
        "        if not self.joined:\n            raise",
        "        if False:\n            raise",
        _TURNS,
    ),
    _loop(
        "fail_all fails one",
        QUEUE,
        "                    entry.future.set_exception(error)\n",
        "                    entry.future.set_exception(error)\n                break\n",
        _TURNS,
    ),
    _loop("fork", QUEUE, "        check_pump(self.pump)\n", "", _TROUBLE),
    _loop("cancel does not drop", LOOPQUEUE, "            self.queue.drop(one)\n", "            pass\n", _TROUBLE),
    _loop(
        "a new connection is not watched",
        LOOPQUEUE,
        "self._wake_read < 0 or (self._pump.epoch == self._epoch and self._fd >= 0)",
        "self._wake_read < 0 or self._epoch >= 0",
        _TROUBLE,
    ),
    _loop("a lost connection is not seen to", LOOPQUEUE, "        self.queue.look()\n", "", _TURNS),
    _loop("an end without an error", LOOPQUEUE, "        if not self._pump.alive:\n", "        if False:\n", _TROUBLE),
    _loop("no deadlines", LOOPQUEUE, "in self.queue.overdue():", "in ():", _TROUBLE),
    _loop("no task management", LOOPQUEUE, "            self._expired(error, lun)", "            pass", _TROUBLE),
    _loop(
        "room is not waited for",
        LOOPQUEUE,
        "        if self._fd >= 0 and blocked != self._writing:",
        "        if False:",
        _TURNS,
    ),
    _loop("a loop closed first", LOOPQUEUE, "        if not self._loop.is_closed():", "        if True:", _TURNS),
    _loop(
        "waiters for a slot forgotten", LOOPQUEUE, "[*self.queue.close(), *self._waiting]", "self.queue.close()", _TURNS
    ),
)



def _target(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A fault of the target's compiled data path: in a part of it, by name, or in a file that it works with."""
    file = file if "/" in file else f"swd/_targetpath_{file}.pxi"
    return Mutant(
        f"target: {name}", file, ((old, new),), tuple(f"tests/targetpath/test_targetpath_{test}.py" for test in tests)
    )


TARGET = (
    _target(
        "past the end",
        "commands",
        "or wanted.lba >= unit.blocks or wanted.blocks > unit.blocks - wanted.lba",
        "",
        "peers",
    ),
    _target(
        "longer than asked",
        "writes",
        "    if length > sequence.end - sequence.offset:",
        "    if False:",
        "equality",
    ),
    _target(
        "more than the burst", "commands", "or length > size or length > self.first_burst", "", "equality", "peers"
    ),
    _target("DataSN not looked at", "writes", "get32(bhs + 36) != sequence.data_sn or ", "", "equality"),
    _target("data digest skipped", "framing", "~self.crc(self.body_crc, at, padding) !=", "0 and 0 !=", "peers"),
    _target("a header that has not all come", "framing", "    if available < header:  ", "    if False:  ", "edges"),
    _target("header digest skipped", "framing", "~self.crc(CRC_START, bhs, header) !=", "0 and 0 !=", "peers"),
    _target(
        "the gate is not looked at",
        "commands",
        "swd_gate_read(&self.gate.epoch) != self.seen:",
        "not self.unit_count:",
        "units",
    ),
    _target("attentions are not asked for", COMPILED, "self._admit()  # an", "pass  # an", "units"),
    _target(
        "an aborted segment goes on",
        "writes",
        "        self.body_write = NULL\n        self.dest = NULL\n",
        "        pass\n",
        "units",
    ),
    _target(
        "UNMAP between command and data",
        "writes",
        "        memset(write.used, 1, write.pages)\n        forget",
        "        forget",
        "units",
    ),
    _target("writes do not narrow the window", "answers", " - self.open_count - self.others - 1", " - 1", "equality"),
    _target("gaps in CmdSN", "commands", "get32(bhs + 24) != self.exp_cmd_sn or ", "", "equality"),
    _target("held commands forgotten", "commands", "or self.others or self.held ", "or self.others ", "equality"),
    _target("tags in use", "commands", "itt == RESERVED or find(self, itt) != NULL", "itt == RESERVED", "units"),
    _target("ORDERED makes no difference", FRAMING, "self._queue.own()", "pass", "units"),
    _target(
        "no high water",
        "framing",
        "        elif self.queue.bytes > self.high_water:\n            return FULL\n",
        "",
        "peers",
    ),
    _target("asleep over a full ring", "turns", "    if full:   ", "    if False:   ", "edges"),
    _target("asking without memory", "writes", "        return False\n", "        return True\n", "edges"),
    _target(
        "lent, with a digest",
        "answers",
        "        if self.data_digest:\n            crc = swd",
        "        if False:\n            crc = swd",
        "equality",
    ),
    _target("a step, and no copies", "units", "                swd_queue_own(&path.queue)\n", "", "units"),
    _target("a step that stops no path", "units", "        flat.paths.add(self)\n", "", "units"),
    _target("a buffer for the collector", "swd/_targetpath.pyx", "@cython.no_gc_clear  # its", "# its", "peers"),
    _target("a unit for the collector", "units", "@cython.no_gc  # its", "# its", "peers"),
)

PYTHON = HOSTILE_LOGIN + HOSTILE_CHAP + HOSTILE_TEXT + HOSTILE_VALUES + HOSTILE_NAMES + HOSTILE_SESSION

MUTANTS = DATA + HOSTILE_ENGINE + PYTHON + LOOP + TARGET
