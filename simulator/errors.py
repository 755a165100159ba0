"""What can go wrong in the simulator, and whose fault it is."""


class SimulatorError(Exception):
    """Base of all; its text is one line for the person who started the simulator."""


class UnreachableError(SimulatorError):
    """Nobody listens where the machines should connect; the server's side, worth trying again."""


class AcknowledgementError(SimulatorError):
    """The server acknowledged in a way that cannot be true; the server's fault, never worth a retry."""


class EncryptionError(SimulatorError):
    """A certificate or a key can't be used; the caller's fault."""
