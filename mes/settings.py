"""`[mes]`: the supplier's service, where it runs from this configuration."""

from typing import Annotated

import msgspec

from storage.files import WithPath


class MesSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[mes]`: what `headrace mes` serves. Who may call it shows the token in `HEADRACE_MES_TOKEN`."""

    host: str = "127.0.0.1"
    """The address to listen on."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9481
    """The port to listen on; 0 takes any free one."""

    path: Annotated[str, msgspec.Meta(min_length=1)] = "data/mes.db"
    """Its database, an SQLite file: the supplier's own, whatever the gateway stores in."""

    piece_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    """How long the line takes for one piece; with 0 nobody produces, and states are set through the API."""
