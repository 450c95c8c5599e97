//! The keys of a monitor of Uptime Kuma that no HTTP check here has a use for.

use super::section::Section;

/// What Uptime Kuma notes for itself.
const BOOKKEEPING: [&str; 13] = [
    "id",
    "childrenIDs",
    "weight",
    "forceInactive",
    "includeSensitiveData",
    "dns_last_result",
    "maintenance",
    "path",
    "pathName",
    "screenshot",
    "user_id",
    "created_date",
    "accepted_statuscodes_json",
];

/// Monitors of all types have the keys of all types, mostly with their defaults.
const OTHER_TYPES: [&str; 67] = [
    "hostname",
    "port",
    "packetSize",
    "dns_resolve_type",
    "dns_resolve_server",
    "docker_container",
    "docker_host",
    "mqttTopic",
    "mqttSuccessMessage",
    "mqttCheckType",
    "mqttUsername",
    "mqttPassword",
    "mqttWebsocketPath",
    "databaseQuery",
    "databaseConnectionString",
    "grpcUrl",
    "grpcProtobuf",
    "grpcMethod",
    "grpcServiceName",
    "grpcEnableTls",
    "grpcBody",
    "grpcMetadata",
    "radiusUsername",
    "radiusPassword",
    "radiusSecret",
    "radiusCalledStationId",
    "radiusCallingStationId",
    "game",
    "gamedigGivenPortOnly",
    "gamedigToken",
    "kafkaProducerTopic",
    "kafkaProducerBrokers",
    "kafkaProducerSsl",
    "kafkaProducerAllowAutoTopicCreation",
    "kafkaProducerMessage",
    "kafkaProducerSaslOptions",
    "pushToken",
    "remote_browser",
    "snmpOid",
    "snmpVersion",
    "snmpCommunityString",
    "snmp_v3_username",
    "snmp_v3_auth_protocol",
    "rabbitmqNodes",
    "rabbitmqUsername",
    "rabbitmqPassword",
    "smtpSecurity",
    "conditions",
    "manual_status",
    "ping_numeric",
    "ping_count",
    "ping_per_request_timeout",
    "system_service_name",
    "subtype",
    "location",
    "protocol",
    "ntp_stratum",
    "expectedTlsAlert",
    "expected_tls_alert",
    "wsSubprotocol",
    "ws_subprotocol",
    "wsIgnoreSecWebsocketAcceptHeader",
    "ws_ignore_sec_websocket_accept_header",
    "screenshot_delay",
    "sipUrl",
    "sipMethod",
    "domain",
];

pub(super) fn leave_out(monitor: &mut Section<'_>) {
    monitor.left_out(
        &["notificationIDList", "resendInterval"],
        "no notifications are sent here: ask the stored results, or the metrics",
    );
    monitor.left_out(&["tags", "description"], "a site here has a name only");
    monitor.left_out(&["domainExpiryNotification"], "domains are not looked up");
    monitor.left_out(&["cacheBust"], "requests are sent as they are written");
    monitor.left_out(
        &[
            "saveResponse",
            "saveErrorResponse",
            "save_response",
            "save_error_response",
            "responseMaxLength",
            "response_max_length",
        ],
        "`capture_bytes` keeps the body of a failed check here",
    );
    monitor.left_out(
        &[
            "retryOnlyOnStatusCodeFailure",
            "retry_only_on_status_code_failure",
        ],
        "every failure is checked again here",
    );
    monitor.left_out(&BOOKKEEPING, "Uptime Kuma's own bookkeeping");
    monitor.left_out(&OTHER_TYPES, "for monitors of other types");
}
