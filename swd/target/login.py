# SPDX-License-Identifier: Apache-2.0
"""The target's side of login (RFC 7143 chapter 6, 11.12, 11.13, 12): requests in, responses out, no socket.

A request passes three doors: is it in sequence (`_sequence`), who is it (`_introduce`, first request only), and the
stage that it is in (`_security`, `_operational`). A door that stays shut raises `Refusal`, which becomes the status of
the last response. Random bytes are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from swd.errors import AuthenticationFailed, ProtocolViolation
from swd.proto import chap, keys, negotiate, serial, text
from swd.proto.keys import Value
from swd.proto.pdu import LoginRequest, LoginResponse
from swd.target.config import TargetConfig
from swd.target.scsi.nexus import NexusId
from swd.values import Negotiated

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3  # 11.12.3
_MAX_REQUESTS = 32  # a login that takes more is no login

MOVED_FOR_NOW, MOVED_FOR_GOOD = 0x0101, 0x0102  # 11.13.5: class, then detail
INITIATOR_ERROR, AUTHENTICATION_FAILURE, NOT_ALLOWED, NOT_FOUND = 0x0200, 0x0201, 0x0202, 0x0203
UNSUPPORTED_VERSION, TOO_MANY_CONNECTIONS, MISSING_PARAMETER = 0x0205, 0x0206, 0x0207
NO_SUCH_SESSION_TYPE, NO_SUCH_SESSION, INVALID_DURING_LOGIN = 0x0209, 0x020A, 0x020B

# Not worth a round trip: they bind us to nothing at recovery level 0.
_NOT_ASKED_FOR = frozenset({"DefaultTime2Wait", "DefaultTime2Retain"})
_DIGEST_WORDS = {"none": "None", "crc32c": "CRC32C"}


class Refusal(ProtocolViolation):
    """Login ends here with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason, clause="11.13.5")
        self.status = status


class Moved(Refusal):
    """The target is to be found elsewhere."""

    def __init__(self, address: str, *, permanent: bool) -> None:
        super().__init__(MOVED_FOR_GOOD if permanent else MOVED_FOR_NOW, "the target has moved")
        self.address = address


class Catalogue(Protocol):
    """What login has to know about the server."""

    def find(self, target_name: str | None) -> TargetConfig | None:
        """The target of that name; for None, what holds for discovery sessions."""

    def session_exists(self, identity: NexusId, tsih: int) -> bool:
        """Whether a request with that TSIH speaks of a live session of that I_T nexus."""

    def new_tsih(self) -> int:
        """1..65535, of no live session."""


class Step(NamedTuple):
    """The answer to one request; the last has `agreed` set if login succeeded, `refusal` if it failed."""

    response: LoginResponse
    data: bytes
    agreed: Negotiated | None = None
    refusal: Refusal | None = None


class TargetLogin:
    """One login on one connection. After a step with `agreed` or `refusal` it is over."""

    def __init__(self, catalogue: Catalogue, *, chap_id: int, challenge: bytes) -> None:
        self._catalogue = catalogue
        self._chap_id = chap_id
        self._challenge = challenge
        self._collector = text.Collector()
        self.portal_group: int | None = None  # of the portal that the connection came by, if that has one
        self._first: LoginRequest | None = None
        self._requests = 0
        self._stat_sn = 0
        self._stage = SECURITY
        self._introduced = False
        self._seen: set[str] = set()
        self._who: dict[str, str] = {}
        self._discovery = False
        self._config = TargetConfig("")
        self._authority: chap.ChapTarget | None = None
        self._method = ""  # AuthMethod as agreed on
        self._mine: dict[str, Value] = {}
        self._values: dict[str, Value] = {}
        self._asked: set[str] = set()  # keys that we began with
        self._declared = False

    @property
    def config(self) -> TargetConfig:
        """The target that is logged in to; that of discovery sessions has no name."""
        return self._config

    def receive(self, request: LoginRequest, data: bytes) -> Step:
        """Judge one request. Never raises: what is wrong comes back as a refusal with its response."""
        try:
            return self._step(request, data)
        except Refusal as refusal:
            return self._refused(request, refusal)
        except AuthenticationFailed as error:
            return self._refused(request, Refusal(AUTHENTICATION_FAILURE, error.reason))
        except ProtocolViolation as error:
            return self._refused(request, Refusal(INITIATOR_ERROR, error.reason))

    def refuse(self, request: LoginRequest, status: int) -> LoginResponse:
        """The response that ends this login with a status of class and detail, whatever was asked."""
        return self._response(request, status=status)

    def _step(self, request: LoginRequest, data: bytes) -> Step:
        self._sequence(request)
        whole = self._collector.add(data, continued=request.continued)
        if whole is None:
            return Step(self._response(request), b"")
        pairs = text.decode(whole)
        self._repeated(pairs)
        answers: text.Pairs = []
        if not self._introduced:
            answers += self._introduce(request, dict(pairs))
        stage = self._security if request.csg == SECURITY else self._operational
        ready, more = stage(request, pairs)
        answers += more
        transit = request.transit and ready
        agreed = None
        if transit and request.nsg == FULL_FEATURE:
            answers += self._declaration()
            agreed = self._agreed(request)
        if transit:
            self._stage = request.nsg
        return Step(self._response(request, transit, agreed), text.encode(answers), agreed)

    def _sequence(self, request: LoginRequest) -> None:
        """Version, stage numbers, and the tags that stay the same throughout (11.12)."""
        self._requests += 1
        if request.version_min > 0:
            raise Refusal(UNSUPPORTED_VERSION, "the initiator does not speak version 0")
        if self._first is None:
            self._first = request
            self._stage = request.csg
        same = (self._first.itt, self._first.isid, self._first.cid, self._first.tsih)
        onward = not request.transit or (request.nsg in (OPERATIONAL, FULL_FEATURE) and request.nsg > request.csg)
        if (
            request.csg not in (SECURITY, OPERATIONAL)
            or request.csg != self._stage
            or not onward
            or (request.transit and request.continued)
            or (request.itt, request.isid, request.cid, request.tsih) != same
        ):
            raise Refusal(INVALID_DURING_LOGIN, "the Login Request does not follow from those before it")
        if self._requests > _MAX_REQUESTS:
            raise Refusal(INITIATOR_ERROR, f"login takes more than {_MAX_REQUESTS} requests")

    def _repeated(self, pairs: text.Pairs) -> None:
        """A key is negotiated once in a login (6.2); who we are talking to does not change either."""
        for name, value in pairs:
            if name in self._seen and self._who.get(name) != value and not name.startswith("CHAP_"):
                raise Refusal(INITIATOR_ERROR, f"{name} came twice in one login")
            if name in ("InitiatorName", "TargetName", "SessionType"):
                self._who[name] = value
            self._seen.add(name)

    def _introduce(self, request: LoginRequest, pairs: Mapping[str, str]) -> text.Pairs:
        """Session type, names and TSIH of the first request (6.3.1); the target answers with its portal group."""
        kind = pairs.get("SessionType", "Normal")
        if kind not in ("Normal", "Discovery"):
            raise Refusal(NO_SUCH_SESSION_TYPE, "the SessionType is neither Normal nor Discovery")
        self._discovery = kind == "Discovery"
        if not pairs.get("InitiatorName") or not (self._discovery or pairs.get("TargetName")):
            raise Refusal(MISSING_PARAMETER, "InitiatorName or TargetName is missing")
        config = self._catalogue.find(None if self._discovery else pairs["TargetName"])
        if config is None or not (self._discovery or config.reached_by(self.portal_group)):
            raise Refusal(NOT_FOUND, "there is no target of that name here")
        if not config.admits(pairs["InitiatorName"]):
            raise Refusal(NOT_ALLOWED, "this initiator may not use the target")
        if config.redirection.address is not None:
            raise Moved(config.redirection.address, permanent=config.redirection.permanent)
        if request.tsih:
            nexus = NexusId(pairs["InitiatorName"], request.isid, config.name, config.group(self.portal_group))
            exists = self._catalogue.session_exists(nexus, request.tsih)
            raise Refusal(
                TOO_MANY_CONNECTIONS if exists else NO_SUCH_SESSION,
                "the session takes one connection" if exists else "there is no session of that TSIH",
            )
        self._config = config
        self._mine = mine(config)
        if config.chap is not None:
            algorithms = chap.available(config.chap_algs)
            self._authority = chap.ChapTarget(config.chap, algorithms, self._chap_id, self._challenge)
        self._introduced = True
        if self._discovery:
            return []
        alias = [("TargetAlias", config.alias)] if config.alias else []
        return [("TargetPortalGroupTag", str(config.group(self.portal_group))), *alias]

    def _security(self, request: LoginRequest, pairs: text.Pairs) -> tuple[bool, text.Pairs]:
        """Whether the stage may end, and what to answer (6.3.2, 12.1)."""
        given = dict(pairs)
        answers = self._beside_security(pairs)
        if "AuthMethod" in given:
            wanted = "None" if self._authority is None else "CHAP"
            if wanted not in given["AuthMethod"].split(","):
                raise Refusal(AUTHENTICATION_FAILURE, f"this target wants AuthMethod={wanted}")
            self._method = wanted
            answers.append(("AuthMethod", wanted))
        if self._authority is not None and self._method == "CHAP":
            if "CHAP_A" in given:
                answers += self._authority.challenge(given)
            elif "CHAP_R" in given:
                answers += self._authority.verify(given)
        if request.nsg == FULL_FEATURE and request.transit and self._missing():
            raise Refusal(INITIATOR_ERROR, "the operational stage cannot be left out: this target insists on a key")
        return self._authority is None or self._authority.done, answers

    def _beside_security(self, pairs: text.Pairs) -> text.Pairs:
        """Declarations may come in any stage; operational keys may not (6.3.2)."""
        others = [pair for pair in pairs if pair[0] not in keys.BY_NAME or keys.BY_NAME[pair[0]].declarative]
        if any(keys.BY_NAME[name].stage == "operational" for name, _ in pairs if name in keys.BY_NAME):
            raise Refusal(INVALID_DURING_LOGIN, "an operational key came in the security stage")
        answered = negotiate.answer(others, {}, discovery=self._discovery)
        self._values.update(answered.values)
        return answered.pairs

    def _operational(self, request: LoginRequest, pairs: text.Pairs) -> tuple[bool, text.Pairs]:
        """Whether all is agreed on, and what to answer; what the initiator left open but we need, we ask for (6.2)."""
        if self._authority is not None and not self._authority.done:
            raise Refusal(AUTHENTICATION_FAILURE, "the initiator has to authenticate itself first")
        self._hear([pair for pair in pairs if pair[0] in self._asked])
        ours = [pair for pair in pairs if pair[0] not in self._asked]
        answered = negotiate.answer(ours, self._mine, discovery=self._discovery)
        self._values.update(answered.values)
        answers = answered.pairs + self._declaration()
        if not request.transit:
            return False, answers
        missing = self._missing()
        self._asked.update(name for name, _ in missing)
        return not missing, answers + missing

    def _declaration(self) -> text.Pairs:
        """Our MaxRecvDataSegmentLength, once; it may come in any stage (13.12)."""
        if self._declared:
            return []
        self._declared = True
        return [("MaxRecvDataSegmentLength", keys.write(self._mine["MaxRecvDataSegmentLength"]))]

    def _missing(self) -> text.Pairs:
        """What has to be asked for because its default is not what we grant. A key that was refused is final."""
        missing: text.Pairs = []
        for name, wanted in self._mine.items():
            key = keys.BY_NAME[name]
            if name in self._values or key.declarative or (self._discovery and not key.discovery):
                continue
            if name in _NOT_ASKED_FOR or acceptable(key, key.default, wanted):
                continue
            if name in self._seen or name in self._asked:
                raise Refusal(INITIATOR_ERROR, f"{name} could not be agreed on")
            missing.append((name, keys.write(wanted)))
        return missing

    def _hear(self, pairs: text.Pairs) -> None:
        """The initiator's answers to what we asked for."""
        for name, value in pairs:
            key, wanted = keys.BY_NAME[name], self._mine[name]
            if value in keys.RESERVED:
                continue  # `_missing` judges it
            answer = keys.read(key, value)
            chosen = answer[0] if isinstance(answer, tuple) else answer
            if acceptable(key, chosen, wanted):
                self._values[name] = chosen

    def _agreed(self, request: LoginRequest) -> Negotiated:
        values = {key.name: key.default for key in keys.TABLE} | self._values
        mutual = self._authority is not None and self._authority.mutual
        return Negotiated(
            initiator_name=self._who["InitiatorName"],
            target_name=self._config.name,
            session_type="Discovery" if self._discovery else "Normal",
            isid=request.isid,
            tsih=self._catalogue.new_tsih(),
            cid=request.cid,
            cmd_sn=request.cmd_sn,
            exp_stat_sn=serial.add(self._stat_sn, 1),
            max_cmd_sn=request.cmd_sn,
            auth="none" if self._authority is None else "chap-mutual" if mutual else "chap",
            chap_algorithm=None if self._authority is None else self._authority.algorithm,
            target_portal_group_tag=None if self._discovery else self._config.group(self.portal_group),
            target_alias=self._config.alias,
            header_digest=values["HeaderDigest"] == "CRC32C",
            data_digest=values["DataDigest"] == "CRC32C",
            max_recv_data_segment_length=_number(values, "MaxRecvDataSegmentLength"),
            target_max_recv_data_segment_length=self._config.limits.max_recv_data_segment_length,
            max_burst_length=_number(values, "MaxBurstLength"),
            first_burst_length=min(_number(values, "FirstBurstLength"), _number(values, "MaxBurstLength")),
            initial_r2t=bool(values["InitialR2T"]),
            immediate_data=bool(values["ImmediateData"]),
            max_outstanding_r2t=_number(values, "MaxOutstandingR2T"),
            default_time2wait=_number(values, "DefaultTime2Wait"),
            default_time2retain=_number(values, "DefaultTime2Retain"),
        )

    def _response(
        self, request: LoginRequest, transit: bool = False, agreed: Negotiated | None = None, status: int = 0
    ) -> LoginResponse:
        response = LoginResponse(
            transit=transit,
            csg=request.csg,
            nsg=request.nsg if transit else 0,
            isid=request.isid,
            tsih=agreed.tsih if agreed else request.tsih,
            itt=request.itt,
            stat_sn=self._stat_sn,
            exp_cmd_sn=request.cmd_sn,
            max_cmd_sn=request.cmd_sn,
            status_class=status >> 8,
            status_detail=status & 0xFF,
        )
        self._stat_sn = serial.add(self._stat_sn, 1)
        return response

    def _refused(self, request: LoginRequest, refusal: Refusal) -> Step:
        where = [("TargetAddress", refusal.address)] if isinstance(refusal, Moved) else []
        return Step(self._response(request, status=refusal.status), text.encode(where), None, refusal)


def _number(values: Mapping[str, Value], name: str) -> int:
    value = values[name]
    assert isinstance(value, int)  # `keys.read` saw to it
    return value


def mine(config: TargetConfig) -> dict[str, Value]:
    """What a target grants, as values of text keys."""
    limits = config.limits
    return {
        "HeaderDigest": tuple(_DIGEST_WORDS[word] for word in config.header_digest),
        "DataDigest": tuple(_DIGEST_WORDS[word] for word in config.data_digest),
        "MaxRecvDataSegmentLength": limits.max_recv_data_segment_length,
        "MaxBurstLength": limits.max_burst_length,
        "FirstBurstLength": min(limits.first_burst_length, limits.max_burst_length),
        "InitialR2T": limits.initial_r2t,
        "ImmediateData": limits.immediate_data,
        "MaxOutstandingR2T": limits.max_outstanding_r2t,
        "MaxConnections": 1,
        "DataPDUInOrder": True,
        "DataSequenceInOrder": True,
        "DefaultTime2Wait": limits.default_time2wait,
        "DefaultTime2Retain": limits.default_time2retain,
        "ErrorRecoveryLevel": 0,
    }


def acceptable(key: keys.Key, value: Value, wanted: Value) -> bool:
    """Whether a value is within what we grant: one of our words, or what the key's function leaves as it is."""
    if key.kind == "list":
        return isinstance(wanted, tuple) and value in wanted
    return keys.result(key, value, wanted) == value
