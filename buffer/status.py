"""StatusCodes: the one vocabulary for the quality of a value, from a Modbus exception to the platform.

Numbers and names are those of OPC UA Part 6, Annex A.2 (StatusCode.csv of the UA Nodeset). The two top bits are the
severity: 00 Good, 01 Uncertain, 10 Bad. A code stands here once something in the project gives it to a value; any
other code that a server sends is kept as it came.
"""

GOOD = 0x00000000
UNCERTAIN_ENGINEERING_UNITS_EXCEEDED = 0x40940000
UNCERTAIN_SENSOR_NOT_ACCURATE = 0x40930000
BAD = 0x80000000
BAD_COMMUNICATION_ERROR = 0x80050000
BAD_DECODING_ERROR = 0x80070000
BAD_TIMEOUT = 0x800A0000
BAD_NO_COMMUNICATION = 0x80310000
BAD_WAITING_FOR_INITIAL_DATA = 0x80320000
BAD_NODE_ID_UNKNOWN = 0x80340000
BAD_OUT_OF_RANGE = 0x803C0000
BAD_NOT_SUPPORTED = 0x803D0000
BAD_SENSOR_FAILURE = 0x808C0000
BAD_DEVICE_FAILURE = 0x808B0000
BAD_NOT_CONNECTED = 0x808A0000
BAD_NO_DATA = 0x809B0000
BAD_CONFIGURATION_ERROR = 0x80890000

_SEVERITY_MASK = 0xC0000000

NAMES: dict[int, str] = {
    GOOD: "Good",
    UNCERTAIN_ENGINEERING_UNITS_EXCEEDED: "UncertainEngineeringUnitsExceeded",
    UNCERTAIN_SENSOR_NOT_ACCURATE: "UncertainSensorNotAccurate",
    BAD: "Bad",
    BAD_COMMUNICATION_ERROR: "BadCommunicationError",
    BAD_DECODING_ERROR: "BadDecodingError",
    BAD_TIMEOUT: "BadTimeout",
    BAD_NO_COMMUNICATION: "BadNoCommunication",
    BAD_WAITING_FOR_INITIAL_DATA: "BadWaitingForInitialData",
    BAD_NODE_ID_UNKNOWN: "BadNodeIdUnknown",
    BAD_OUT_OF_RANGE: "BadOutOfRange",
    BAD_NOT_SUPPORTED: "BadNotSupported",
    BAD_SENSOR_FAILURE: "BadSensorFailure",
    BAD_DEVICE_FAILURE: "BadDeviceFailure",
    BAD_NOT_CONNECTED: "BadNotConnected",
    BAD_NO_DATA: "BadNoData",
    BAD_CONFIGURATION_ERROR: "BadConfigurationError",
}


def is_good(code: int) -> bool:
    """Say whether a StatusCode's severity is Good (whatever its detail)."""
    return code & _SEVERITY_MASK == GOOD


def is_bad(code: int) -> bool:
    """Say whether a StatusCode's severity is Bad: the value, if there is one, must not be used."""
    return code & BAD == BAD


def name(code: int) -> str:
    """Give a StatusCode's standard name, or its number in hex where this page does not list it."""
    return NAMES.get(code, f"0x{code:08X}")
