"""The gRPC door: the service of ``quantum_db.proto``, whose calls pass the same gate as REST routes."""
