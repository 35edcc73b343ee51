"""An RTSP server for the tests, run by the system's Python, which has GStreamer's bindings.

Reads JSON from its standard input: port (0: any), user, password, method (basic or digest), udp (whether
pictures go over udp alone). Prints its port, then serves rtsp://127.0.0.1:PORT/live until it is killed. Ends
with MISSING, saying what, where a part is not installed.
"""

import json
import sys

MISSING = 77
PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 "
    "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
ROLE = "viewer"

try:
    import gi

    for part in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(part, "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
except (ImportError, ValueError) as error:
    print(error)
    sys.exit(MISSING)


def admit(asked):
    """Only who says the password may come in."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    auth = GstRtspServer.RTSPAuth()
    if asked["method"] == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(asked["user"], asked["password"], token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(asked["user"], asked["password"]), token)
    return auth


def film(udp):
    """One ball, bouncing for all who watch."""
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    if udp:
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role(ROLE, f"media.factory.{what}", True)
    factory.set_permissions(permissions)
    return factory


def main():
    asked = json.load(sys.stdin)
    Gst.init(None)
    for element in ("videotestsrc", "x264enc", "rtph264pay"):
        if Gst.ElementFactory.find(element) is None:
            print(f"no {element}")
            sys.exit(MISSING)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(asked["port"]))
    server.set_auth(admit(asked))
    server.get_mount_points().add_factory("/live", film(asked["udp"]))
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
