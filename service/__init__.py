import os

__version__ = "0.1.0"

# onnxruntime sends telemetry and stores a machine id, unless this is set when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
