"""THE WEB PROCESS: metrics, health and the status page, for those who may look and change nothing."""
