"""Whether the way to the broker leaves this machine."""

import socket


def is_remote(address: str) -> bool:
    """Tell whether a broker's address, `ipc://…` or `tcp://host:port`, belongs to another machine.

    A socket can be bound to every address of this machine and to no other. A name that can't be resolved, or
    not yet, is taken for another machine's.
    """
    if not address.startswith("tcp://"):
        return False
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return True
    return not any(_is_here(family, place) for family, *_, place in found)


def _is_here(family: int, place: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(place)
        except OSError:
            return False
    return True
