//! [`Message`]: what a line from QEMU says.

use serde_json::Value;

use crate::Event;

/// What a line from QEMU says, as far as we want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// QEMU is there and speaks QMP.
    Greeting,
    /// Something happened.
    Event(Event),
    /// A call is answered.
    Answer {
        /// The call's own id.
        id: u64,
        /// How it went.
        outcome: Outcome,
    },
}

/// QEMU's answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// What it returned.
    Returned(Value),
    /// It will not.
    Refused {
        /// QEMU's class of errors, such as `GenericError`.
        class: String,
        /// QEMU's own sentence.
        desc: String,
    },
}

impl Message {
    /// Reads a line, without its end; `None` if it is none of ours: no JSON,
    /// an event that nobody waits for, an answer without an id.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut message = serde_json::from_slice::<Value>(line).ok()?;
        if message.get("QMP").is_some() {
            return Some(Self::Greeting);
        }
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            return Event::parse(name, message.get("data").unwrap_or(&Value::Null)).map(Self::Event);
        }
        let id = message.get("id").and_then(Value::as_u64)?;
        let outcome = match message.get("error") {
            Some(error) => {
                let text = |field| error.get(field).and_then(Value::as_str).unwrap_or("unknown").to_owned();
                Outcome::Refused { class: text("class"), desc: text("desc") }
            }
            None => Outcome::Returned(message.get_mut("return").map_or(Value::Null, Value::take)),
        };
        Some(Self::Answer { id, outcome })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_greeting_an_event_an_answer_or_nothing() {
        let parse = |line: &str| Message::parse(line.as_bytes());
        assert_eq!(parse(r#"{"QMP":{"version":{}}}"#), Some(Message::Greeting));
        assert_eq!(parse(r#"{"event":"STOP","timestamp":{}}"#), Some(Message::Event(Event::Stop)));
        let answer = |outcome| Some(Message::Answer { id: 7, outcome });
        assert_eq!(parse(r#"{"return":{"a":1},"id":7}"#), answer(Outcome::Returned(json!({"a": 1}))));
        assert_eq!(parse(r#"{"id":7}"#), answer(Outcome::Returned(Value::Null)));
        let refused = Outcome::Refused { class: "unknown".to_owned(), desc: "no".to_owned() };
        assert_eq!(parse(r#"{"error":{"desc":"no"},"id":7}"#), answer(refused));
        for nothing in ["", "[]", "7", "{", r#"{"event":"FUTURE"}"#, r#"{"return":{}}"#, r#"{"return":{},"id":-7}"#] {
            assert_eq!(parse(nothing), None, "{nothing}");
        }
    }
}
