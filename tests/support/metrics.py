"""The names of the service's metrics, which docs, dashboard and manifests use."""

NAMES = frozenset(
    {
        "inferer_requests_total",
        "inferer_request_duration_seconds",
        "inferer_stage_duration_seconds",
        "inferer_in_flight_requests",
        "inferer_queue_size",
        "inferer_rejected_total",
        "inferer_log_lines_dropped_total",
        "inferer_cache_texts_total",
        "inferer_cache_bytes",
        "inferer_batch_size",
        "inferer_input_tokens",
        "inferer_truncated_total",
        "inferer_abstained_total",
        "inferer_predictions_total",
        "inferer_confidence",
        "inferer_model_info",
    }
)
