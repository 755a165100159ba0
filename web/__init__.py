"""The HTTP side: operations endpoints, the telemetry API, and the pages."""
