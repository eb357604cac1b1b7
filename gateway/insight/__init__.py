"""What the gateway tells its operators: metrics, log lines, traces; no stage depends on them."""
