use super::{SessionEvent, normalised};
use crate::{Mode, NetworkEvent, Phase, Record, RecordId, Session};

fn refused(model: &str, text: &str) -> String {
    normalised(model, text).unwrap_err().to_string()
}

#[test]
fn an_event_is_put_in_the_order_of_the_format() {
    for (given, expected) in [
        (
            r#"{"exit_code":0,"ended":"t","type":"session_ended"}"#,
            r#"{"type":"session_ended","ended":"t","exit_code":0}"#,
        ),
        (
            r#"{"type":"session_started","started":"t","command":["é"],"redaction_policy":null}"#,
            r#"{"type":"session_started","started":"t","command":["\u00e9"]}"#,
        ),
        (
            r#"{"type":"session_started","started":"t","command":[],"redaction_policy":{"added_flags":[]}}"#,
            r#"{"type":"session_started","started":"t","command":[],"redaction_policy":{}}"#,
        ),
        (
            r#"{"type":"network","event":{"target":"h","timestamp_unix_ms":1,"mode":"connect","decision":"allow","injection_mode":"oauth2","route_id":null}}"#,
            r#"{"type":"network","event":{"timestamp_unix_ms":1,"mode":"connect","decision":"allow","injection_mode":"oauth2","target":"h","port":null,"method":null,"path":null,"status":null,"reason":null}}"#,
        ),
        (
            r#"{"type":"url_open","request":{"request_id":"r","url":"u","child_pid":1,"session_id":"s"},"success":true}"#,
            r#"{"type":"url_open","request":{"request_id":"r","url":"u","child_pid":1,"session_id":"s"},"success":true,"error":null}"#,
        ),
        (
            r#"{"type":"capability_decision","entry":{"timestamp":"t","request":{"request_id":"r","path":"u","access":"Read","child_pid":1,"session_id":"s"},"decision":{"Denied":{"reason":"x"}},"backend":"b","duration_ms":1}}"#,
            r#"{"type":"capability_decision","entry":{"timestamp":"t","request":{"request_id":"r","path":"u","access":"Read","reason":null,"child_pid":1,"session_id":"s"},"decision":{"Denied":{"reason":"x"}},"backend":"b","duration_ms":1}}"#,
        ),
    ] {
        assert_eq!(SessionEvent::from_json(given).unwrap().text().unwrap(), expected);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (model, text, said) in [
        (
            "SessionEndedEvent",
            r#"{"type":"session_ended","ended":"t","exit_code":true}"#,
            "exit_code",
        ),
        (
            "SessionEndedEvent",
            r#"{"type":"session_ended","ended":"t","exit_code":1.0}"#,
            "exit_code",
        ),
        ("SessionEndedEvent", r#"{"type":"session_ended","ended":"t"}"#, "exit_code"),
        ("SessionEndedEvent", r#"{"type":"session_started","ended":"t"}"#, "type"),
        ("SessionEndedEvent", r#"{"ended":"t","exit_code":1}"#, "type"),
        ("SessionEndedEvent", r#"{"type":"session_ended","ended":"t","exit_code":1,"q":1}"#, "`q`"),
        (
            "SessionStartedEvent",
            r#"{"type":"session_started","started":"t","command":["a",3]}"#,
            "command[1]",
        ),
        (
            "NetworkAuditEventPayload",
            r#"{"timestamp_unix_ms":1,"mode":"x","decision":"allow","target":"h"}"#,
            "mode",
        ),
        (
            "NetworkAuditEventPayload",
            r#"{"timestamp_unix_ms":1,"mode":"connect","decision":"allow","target":"h","zz":1}"#,
            "zz",
        ),
        (
            "NetworkAuditEventPayload",
            r#"{"timestamp_unix_ms":1,"mode":"connect","decision":"allow","target":"h","auth_outcome":"zz"}"#,
            "auth_outcome",
        ),
        (
            "NetworkEvent",
            r#"{"type":"network","event":{"timestamp_unix_ms":1,"mode":"connect","decision":"allow","target":3}}"#,
            "event.target",
        ),
        (
            "AuditEntryPayload",
            r#"{"timestamp":"t","request":{"request_id":"r","path":"u","access":"rw","child_pid":1,"session_id":"s"}}"#,
            "request.access",
        ),
        (
            "AuditEventRecord",
            r#"{"sequence":0,"leaf_hash":"0","chain_hash":"0","event":{"type":"x"}}"#,
            "unknown type x",
        ),
        (
            "AuditEventRecord",
            r#"{"sequence":0,"leaf_hash":"0","chain_hash":"0","event":{"type":"session_ended","ended":"t","exit_code":0}}"#,
            "leaf_hash",
        ),
        ("NoModel", "{}", "NoModel"),
        ("UrlOpenEvent", "[]", "UrlOpenEvent"),
        ("UrlOpenEvent", "", "UrlOpenEvent"),
        ("UrlOpenRequestPayload", r#"{"request_id":"\udcff"}"#, "request_id"),
    ] {
        let reason = refused(model, text);
        assert!(reason.contains(said), "{text}: {reason}");
    }
}

#[test]
fn a_record_of_the_proxy_is_an_event() {
    let id = RecordId { session: Session(7), number: 1 };
    let record =
        Record { target: "h".into(), port: Some(443), ..Record::new(id, 5, Mode::Reverse) };
    let text = SessionEvent::from(&record).text().unwrap();
    assert_eq!(SessionEvent::from_json(&text).unwrap(), SessionEvent::from(&record));
    let event = serde_json::to_value(NetworkEvent::from(&record)).unwrap();
    assert!(
        event.as_object().unwrap().keys().all(|key| NetworkEvent::KEYS.contains(&key.as_str()))
    );
}

#[test]
fn records_that_were_lost_are_told_as_such() {
    let record = Record::new(RecordId { session: Session(1), number: 0 }, 0, Mode::Reverse);
    let gap = Record {
        phase: Phase::Gap,
        dropped: Some(5),
        reason: Some("there was no place".into()),
        ..record
    };
    let SessionEvent::Network(told) = SessionEvent::from(&gap) else { panic!("another event") };
    let said = "no request, but 5 that are not recorded: there was no place";
    assert_eq!(told.event.reason.as_deref(), Some(said));
}
