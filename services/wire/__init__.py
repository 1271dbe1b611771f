"""What processes say to each other: protobuf and gRPC are known here and nowhere else.

gRPC's library reads its settings when it is first imported, so they are set here.
"""

import os

# At its default it tells every connection that goes away, in a format of its own, between our lines.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
