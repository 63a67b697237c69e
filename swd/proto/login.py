# SPDX-License-Identifier: Apache-2.0
"""The login phase of a connection as a machine without I/O (RFC 7143 6.3, 11.12, 11.13).

Security negotiation comes first, always; then operational negotiation; then `Negotiated`, which is the end of it. Two
round trips suffice without CHAP, four with it, and either side may take more: the target by answering T=0, both by
splitting a long text (C=1). Each response is checked against what was asked before a word of it is used. After an error
or the end the machine is dead.

    we send                       the target must answer        then
    a piece of a text (C=1)       an empty response             the next piece
    the end of a text             a piece of a text (C=1)       an empty request, until the text is whole
    the end of a text, T=1        T=1 to the stage asked for    the next stage
    the end of a text, T=0 or 1   T=0                           more of this stage
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, cast

from swd.errors import InvalidArgument, LoginRefused, ProtocolViolation, SwdError
from swd.proto import chap as _chap
from swd.proto import fsm, names, pdu, serial, text
from swd.proto.authentication import Authentication
from swd.proto.keys import Value
from swd.proto.negotiate import Initiator
from swd.proto.options import DEFAULTS, Options
from swd.proto.portal import parse_target_address
from swd.proto.refusal import MOVED_PERMANENTLY, MOVED_TEMPORARILY, REDIRECTION, SUCCESS, refusal
from swd.proto.text import Pairs
from swd.values import Chap, Negotiated, Portal

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3  # CSG and NSG (11.12.3)
STAGES = {SECURITY: "security", OPERATIONAL: "operational"}
_CODES = {fsm.SECURITY: SECURITY, fsm.OPERATIONAL: OPERATIONAL, fsm.FULL_FEATURE: FULL_FEATURE}
MAX_EXCHANGES = 32  # requests in one login; a plain one takes 2, mutual CHAP 4
LOGIN_SEGMENT = 8192  # bytes of a data segment until the receiver declared another length (13.12)
MIN_CHALLENGE = 16  # bytes of a challenge of ours


@dataclass(frozen=True, slots=True)
class LoginConfig:
    """All that a login needs; checked at once, raises InvalidArgument. `target_name` None: a discovery session.

    `tsih` other than 0 joins a session that exists. The same record serves every later login of the session.
    """

    initiator_name: str
    target_name: str | None
    isid: bytes
    options: Options = DEFAULTS
    chap: Chap | None = None
    tsih: int = 0
    cid: int = 0
    cmd_sn: int = 1
    itt: int = 0

    def __post_init__(self) -> None:
        for name in (self.initiator_name, self.target_name):
            if name is not None:
                names.validate(name)
        if len(self.isid) != 6:
            raise InvalidArgument("an ISID is 6 bytes")
        if self.chap is not None and self.auth != "none":
            _chap.check(self.chap, short_secret=self.options.chap_short_secret)
            if not self.algorithms:
                raise InvalidArgument("this host forbids all of chap_algs: " + ", ".join(self.options.chap_algs))
        if self.chap is None and self.auth != "none":
            raise InvalidArgument(f"auth={self.auth} without credentials: give user and secret, or auth=none")

    @property
    def auth(self) -> str:
        return self.options.wanted_auth(credentials=self.chap is not None)

    @property
    def algorithms(self) -> tuple[str, ...]:
        return _chap.available(self.options.chap_algs)

    @property
    def discovery(self) -> bool:
        return self.target_name is None


@dataclass(frozen=True, slots=True)
class Redirect:
    """The target is to be asked at another address, under the same name; the caller counts the hops."""

    portal: Portal
    permanent: bool


Step = bytes | Redirect | Negotiated


class LoginMachine:
    """`start` gives the first PDU; `receive` takes each response and gives the next PDU, a Redirect, or the end.

    `challenge` is 16 to 1024 random bytes and `chap_id` a random byte, fresh for each login; they are used for mutual
    CHAP only. Both verbs raise LoginRefused, AuthenticationFailed or ProtocolViolation.
    """

    def __init__(self, config: LoginConfig, *, chap_id: int, challenge: bytes) -> None:
        if not 0 <= chap_id <= 255 or not MIN_CHALLENGE <= len(challenge) <= _chap.MAX_BINARY:
            raise ValueError("chap_id is one byte, challenge 16 to 1024 bytes")
        self._config = config
        self._authentication = _authentication(config, chap_id, challenge)
        self._negotiation = Initiator(config.options, discovery=config.discovery, leading=config.tsih == 0)
        self._collector = text.Collector()
        self._walk = fsm.Walk(fsm.LOGIN)
        self._queue: list[bytes] = []  # pieces of our text that wait for their turn
        self._last: pdu.LoginRequest | None = None
        self._exchanges = 0
        self._exp_stat_sn: int | None = None
        self._tsih = config.tsih
        self._dead = False

    def start(self) -> bytes:
        """The first PDU: who we are, whom we want, and how we authenticate."""
        if self._last is not None:
            raise ValueError("a login starts once")
        return self._request(self._names() + self._authentication.propose())

    def receive(self, bhs: bytes, data: bytes) -> Step:
        """Take a whole response: 48 header bytes, and the data segment without its padding."""
        if self._dead or self._last is None:
            raise ProtocolViolation("a PDU came where this login expects none", clause="6.3")
        try:
            step = self._take(bhs, bytes(data), self._last)
        except SwdError:
            self._dead = True
            raise
        self._dead = not isinstance(step, bytes)
        return step

    def _take(self, bhs: bytes, data: bytes, asked: pdu.LoginRequest) -> Step:
        response = _unpack(bhs, data)
        if response.itt != asked.itt:
            raise ProtocolViolation("a login response bears another task tag", clause="11.13")
        if response.status_class == REDIRECTION:
            return _redirect(response, data)
        if response.status_class != SUCCESS:
            raise refusal(response.status_class, response.status_detail)
        self._check(response, asked)
        if asked.continued:
            return self._next_piece(response, data)
        whole = self._collector.add(data, continued=response.continued)
        if whole is None:
            return self._send(b"", transit=False)
        pairs = text.decode(whole)
        return self._transit(response, pairs) if response.transit else self._stay(pairs)

    def _check(self, response: pdu.LoginResponse, asked: pdu.LoginRequest) -> None:
        """Every field of a successful response against what was asked (11.13)."""
        _demand(response.version_active == 0, "speaks a version that was not offered", "11.13.2")
        _demand(response.isid == asked.isid, "bears another ISID", "11.13")
        _demand(response.csg == asked.csg, "is of another stage", "11.13.4")
        _demand(not (response.transit and response.continued), "has both T and C set", "11.13.1")
        _demand(asked.transit or not response.transit, "leaves the stage unasked (T)", "11.13.4")
        _demand(not response.transit or response.nsg == asked.nsg, "goes to another stage than asked (NSG)", "11.13.4")
        _demand(self._exp_stat_sn in (None, response.stat_sn), "bears a StatSN out of order", "11.13")
        self._exp_stat_sn = serial.add(response.stat_sn, 1)
        # A TSIH before the final response is early (11.13.3), but some targets do it; it may not change, though.
        _demand(not self._tsih or response.tsih in (0, self._tsih), "bears another TSIH", "11.13.3")
        self._tsih = response.tsih or self._tsih

    def _next_piece(self, response: pdu.LoginResponse, data: bytes) -> bytes:
        _demand(not (data or response.transit or response.continued), "cuts into a text that is not whole", "6.2")
        last = len(self._queue) == 1
        return self._send(self._queue.pop(0), transit=last and self._ready, continued=not last)

    def _stay(self, pairs: Pairs) -> bytes:
        """The target is not through with this stage."""
        self._walk.step("T=0")
        return self._request(self._hear(pairs))

    def _transit(self, response: pdu.LoginResponse, pairs: Pairs) -> Step:
        replies = self._hear(pairs)
        if self._stage == SECURITY:
            # The one door out of the security stage.
            _demand(self._authentication.done, "leaves the security stage before it is through", "6.3.2")
            self._walk.step("T=1")
            return self._request(replies + self._negotiation.offers())
        done = self._negotiated(response)
        self._walk.step("T=1")
        return done

    @property
    def _stage(self) -> int:
        """CSG."""
        return _CODES[self._walk.state]

    @property
    def _following(self) -> int:
        """NSG."""
        row = fsm.LOGIN.row(self._walk.state, "T=1")
        assert row is not None
        return _CODES[row.to]

    @property
    def _ready(self) -> bool:
        """Whether the request that goes out now may ask for the next stage (T), once its text is whole."""
        return self._stage == OPERATIONAL or self._authentication.ready

    def _hear(self, pairs: Pairs) -> Pairs:
        replies = self._negotiation.hear(pairs, STAGES[self._stage])
        if self._stage == SECURITY:
            return self._authentication.receive(dict(pairs)) + replies
        return replies

    def _names(self) -> Pairs:
        who = [("InitiatorName", self._config.initiator_name)]
        if self._config.target_name is None:
            return [*who, ("SessionType", "Discovery")]
        return [*who, ("TargetName", self._config.target_name), ("SessionType", "Normal")]

    def _request(self, pairs: Pairs) -> bytes:
        limit = min(LOGIN_SEGMENT, cast(int, self._negotiation.declared.get("MaxRecvDataSegmentLength", LOGIN_SEGMENT)))
        first, *self._queue = text.split(text.encode(pairs), limit)
        return self._send(first, transit=self._ready and not self._queue, continued=bool(self._queue))

    def _send(self, data: bytes, *, transit: bool, continued: bool = False) -> bytes:
        self._exchanges += 1
        if self._exchanges > MAX_EXCHANGES:
            raise ProtocolViolation(f"the target draws the login out over {MAX_EXCHANGES} rounds", clause="6.3")
        self._last = pdu.LoginRequest(
            transit=transit,
            continued=continued,
            csg=self._stage,
            nsg=self._following if transit else 0,
            isid=self._config.isid,
            tsih=self._config.tsih,
            itt=self._config.itt,
            cid=self._config.cid,
            cmd_sn=self._config.cmd_sn,
            exp_stat_sn=self._exp_stat_sn or 0,
            data_segment_length=len(data),
        )
        return self._last.pack() + pdu.padded(data)

    def _negotiated(self, response: pdu.LoginResponse) -> Negotiated:
        _demand(response.tsih != 0, "ends the login without a TSIH", "11.13.3")
        window = serial.distance(response.exp_cmd_sn, response.max_cmd_sn)
        _demand(window >= -1, "has a command window that ends before it begins", "4.2.2.1")
        config, authentication = self._config, self._authentication
        return Negotiated(
            initiator_name=config.initiator_name,
            target_name=config.target_name or "",
            session_type="Discovery" if config.discovery else "Normal",
            isid=config.isid,
            tsih=response.tsih,
            cid=config.cid,
            # Login requests are immediate and leave CmdSN alone, but some targets count them: begin where these are.
            cmd_sn=response.exp_cmd_sn if config.tsih == 0 else config.cmd_sn,
            exp_stat_sn=serial.add(response.stat_sn, 1),
            max_cmd_sn=response.max_cmd_sn,
            auth=authentication.method,
            chap_algorithm=authentication.algorithm,
            **_parameters(self._negotiation.settle(), self._negotiation.declared, config.options),
        )


# Fields of Negotiated, and the text key whose result they hold.
_PARAMETERS = (
    ("max_burst_length", "MaxBurstLength"),
    ("first_burst_length", "FirstBurstLength"),
    ("initial_r2t", "InitialR2T"),
    ("immediate_data", "ImmediateData"),
    ("max_outstanding_r2t", "MaxOutstandingR2T"),
    ("data_pdu_in_order", "DataPDUInOrder"),
    ("data_sequence_in_order", "DataSequenceInOrder"),
    ("default_time2wait", "DefaultTime2Wait"),
    ("default_time2retain", "DefaultTime2Retain"),
    ("error_recovery_level", "ErrorRecoveryLevel"),
    ("max_connections", "MaxConnections"),
    ("target_max_recv_data_segment_length", "MaxRecvDataSegmentLength"),
    ("target_alias", "TargetAlias"),
)


def _parameters(values: dict[str, Value], declared: dict[str, Value], options: Options) -> dict[str, Any]:
    return {
        **{field: values[name] for field, name in _PARAMETERS},
        "header_digest": values["HeaderDigest"] == "CRC32C",
        "data_digest": values["DataDigest"] == "CRC32C",
        "max_recv_data_segment_length": options.max_recv_data_segment_length,
        "target_portal_group_tag": declared.get("TargetPortalGroupTag"),
    }


def _authentication(config: LoginConfig, chap_id: int, challenge: bytes) -> Authentication:
    if config.chap is None or config.auth == "none":
        return Authentication("none", None, mutual=False)
    machine = _chap.ChapInitiator(config.chap, config.algorithms, chap_id, challenge)
    return Authentication(config.auth, machine, mutual=config.chap.mutual)


def _unpack(bhs: bytes, data: bytes) -> pdu.LoginResponse:
    if len(bhs) == pdu.BHS_LENGTH and bhs[0] & 0x3F == pdu.Opcode.REJECT:
        raise LoginRefused(f"the target rejected the login PDU (reason 0x{bhs[2]:02x})", errno=errno.EPROTO)
    response = pdu.LoginResponse.unpack(bytes(bhs))
    _demand(response.total_ahs_length == 0, "has an additional header", "11.13")
    _demand(response.data_segment_length == len(data), "has another length than its header says", "11.2.1.6")
    return response


def _redirect(response: pdu.LoginResponse, data: bytes) -> Redirect:
    """Where the target sends us (11.13.5); the address is checked, and no name in the answer is looked at."""
    if response.status_detail not in (MOVED_TEMPORARILY, MOVED_PERMANENTLY):
        raise refusal(response.status_class, response.status_detail)
    address = dict(text.decode(data)).get("TargetAddress")
    _demand(address is not None, "redirects without a TargetAddress", "11.13.5")
    fault = ""
    try:
        return Redirect(parse_target_address(address or ""), response.status_detail == MOVED_PERMANENTLY)
    except InvalidArgument as error:
        fault = error.reason
    raise ProtocolViolation(f"the target redirects to an address that is none: {fault}", clause="13.8")


def _demand(sound: bool, what: str, clause: str) -> None:
    if not sound:
        raise ProtocolViolation(f"a login response {what}; refusing to go on", clause=clause)
