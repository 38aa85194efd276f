//! What an error answer says, made safe to log and to show.

use serde_json::{Map, Value};

/// Longest message kept of an answer, in bytes. More than an event shows of one text (1 KiB), so that a message that was cut
/// here is cut again there, where the guest's secrets are known and the beginning of one is not left at the end.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024;
/// Longest `field-errors` text given to a guest, in bytes.
pub const MAX_FIELD_ERRORS_BYTES: usize = 8 * 1024;
/// Longest error code kept, in bytes; the platform's longest has 17.
const MAX_CODE_BYTES: usize = 64;
/// Stands where the answer repeated the token.
const REDACTED: &str = "[redacted]";

/// The body of an error answer: `{error, code, details, fieldErrors}` (interop 6.3). All empty when it was none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// `error`: at most [`MAX_MESSAGE_BYTES`], without control characters and without the token.
    pub message: String,
    /// `code`, such as `REVISION_MISMATCH`.
    pub code: Option<String>,
    /// `fieldErrors`, else the `fieldErrors` of `details`: a JSON object of strings of at most [`MAX_FIELD_ERRORS_BYTES`].
    pub field_errors: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.message.as_str(), &self.code) {
            ("", None) => f.write_str("no explanation"),
            ("", Some(code)) => f.write_str(code),
            (message, None) => f.write_str(message),
            (message, Some(code)) => write!(f, "{message} ({code})"),
        }
    }
}

impl Problem {
    /// Reads a body. One that is no JSON object says nothing: an HTML page of a proxy helps neither guest nor log.
    pub(crate) fn parse(body: &[u8], token: Option<&str>) -> Self {
        match serde_json::from_slice(body) {
            Ok(Value::Object(body)) => Self::of(&body, token),
            _ => Self::default(),
        }
    }

    /// As [`Problem::parse`], from an object.
    pub(crate) fn of(body: &Map<String, Value>, token: Option<&str>) -> Self {
        let text = |name: &str| {
            let cleaned = clean(body.get(name)?.as_str()?, token, MAX_MESSAGE_BYTES);
            Some(cleaned).filter(|(text, _)| !text.is_empty())
        };
        let (message, is_cut) = text("error").or_else(|| text("message")).unwrap_or_default();
        let is_token = |code: &str| token.is_some_and(|token| !token.is_empty() && code.contains(token));
        let code = body.get("code").and_then(Value::as_str).filter(|code| is_code(code) && !is_token(code));
        let field_errors = ["fieldErrors", "field_errors"].iter().find_map(|n| body.get(*n)?.as_object());
        // What zod's `flatten` makes: one list of messages a field.
        let flattened = || body.get("details")?.get("fieldErrors")?.as_object();
        Self {
            message,
            // Whoever looks for the beginning of a secret looks at the end of a text: nothing may follow a cut message.
            code: code.filter(|_| !is_cut).map(str::to_owned),
            field_errors: field_errors.or_else(flattened).and_then(|fields| field_errors_text(fields, token)),
        }
    }
}

/// A word for programs, and not a text of whatever length that would have to be cut.
fn is_code(code: &str) -> bool {
    (1..=MAX_CODE_BYTES).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// The object as JSON text of strings. Fields that are too long are left out, and so are those beyond the limit: it stays
/// JSON, and no text in it is cut.
fn field_errors_text(fields: &Map<String, Value>, token: Option<&str>) -> Option<String> {
    let mut kept = Map::new();
    // The braces.
    let mut bytes = 2;
    for (name, value) in fields {
        let (message, cut) = match value {
            Value::String(message) => clean(message, token, MAX_MESSAGE_BYTES),
            Value::Array(all) => {
                let all: Vec<&str> = all.iter().filter_map(Value::as_str).take(16).collect();
                clean(&all.join("; "), token, MAX_MESSAGE_BYTES)
            }
            other => clean(&other.to_string(), token, MAX_MESSAGE_BYTES),
        };
        let (name, name_cut) = clean(name, token, 256);
        if cut || name_cut {
            continue;
        }
        let entry = Value::String(message);
        // Two quotes, a colon and a comma; escapes of the name are counted by writing it.
        bytes += Value::String(name.clone()).to_string().len() + entry.to_string().len() + 2;
        if bytes > MAX_FIELD_ERRORS_BYTES {
            break;
        }
        kept.insert(name, entry);
    }
    (!kept.is_empty()).then(|| Value::Object(kept).to_string())
}

/// The text without the token and without what moves a terminal's cursor, cut to `max` bytes, and whether it was cut. The token
/// goes first: a cut one would not be found.
fn clean(text: &str, token: Option<&str>, max: usize) -> (String, bool) {
    let text = match token.filter(|t| !t.is_empty()) {
        Some(token) => text.replace(token, REDACTED),
        None => text.to_owned(),
    };
    let mut clean = String::new();
    for c in text.chars() {
        let c = if c.is_control() || is_invisible(c) { ' ' } else { c };
        if clean.len() + c.len_utf8() > max {
            return (clean, true);
        }
        clean.push(c);
    }
    (clean, false)
}

/// Line separators and direction overrides, with which a message can look like another one.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Problem {
        Problem::parse(body.to_string().as_bytes(), Some("runner-token"))
    }

    #[test]
    fn message_code_and_field_errors_are_kept() {
        let problem =
            parse(&json!({"error": "Validation error", "code": "VALIDATION_FAILED", "details": null,
            "fieldErrors": {"cron": "Cron too frequent"}}));
        assert_eq!(problem.to_string(), "Validation error (VALIDATION_FAILED)");
        assert_eq!(problem.field_errors.as_deref(), Some(r#"{"cron":"Cron too frequent"}"#));
    }

    #[test]
    fn the_field_errors_of_details_are_taken_when_there_are_no_others() {
        let problem = parse(&json!({"error": "Validation error",
            "details": {"formErrors": [], "fieldErrors": {"cron": ["Required", "Too short"]}}}));
        assert_eq!(problem.field_errors.as_deref(), Some(r#"{"cron":"Required; Too short"}"#));
    }

    #[test]
    fn neither_the_token_nor_control_characters_survive() {
        let problem =
            parse(&json!({"error": "bad runner-token\r\nINFO all is well\u{1b}[2J\u{202e}x", "code": "A_B",
            "fieldErrors": {"runner-token": "runner-token"}}));
        assert_eq!(problem.message, "bad [redacted]  INFO all is well [2J x");
        assert_eq!(problem.code.as_deref(), Some("A_B"));
        assert_eq!(problem.field_errors.as_deref(), Some(r#"{"[redacted]":"[redacted]"}"#));
    }

    #[test]
    fn a_cut_does_not_leave_half_a_token() {
        let message = format!("{}runner-token", "x".repeat(MAX_MESSAGE_BYTES - 6));
        assert!(!parse(&json!({ "error": message })).message.contains("runner"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_stays_text_with_nothing_after_it() {
        let problem = parse(&json!({ "error": "é".repeat(10_000), "code": "CODE" }));
        assert_eq!((problem.message.len(), &problem.code), (MAX_MESSAGE_BYTES, &None));
        assert!(problem.to_string().ends_with('é'));
    }

    #[test]
    fn a_code_is_a_word_or_nothing() {
        let code = |code: &str| parse(&json!({ "error": "x", "code": code })).code;
        assert_eq!(code("REVISION_MISMATCH").as_deref(), Some("REVISION_MISMATCH"));
        for none in ["", "a b", "a\nb", "é", "(x)", "X_runner-token", &"C".repeat(65)] {
            assert_eq!(code(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_field_error_that_is_too_long_is_left_out_and_not_cut() {
        let long = "x".repeat(MAX_MESSAGE_BYTES + 1);
        let problem = parse(&json!({ "fieldErrors": { "a": long, "b": "short", &long: "c" } }));
        assert_eq!(problem.field_errors.as_deref(), Some(r#"{"b":"short"}"#));
    }

    #[test]
    fn too_many_field_errors_stay_json_within_their_limit() {
        let fields: Map<String, Value> =
            (0..5_000).map(|n| (format!("items[{n}]"), json!("\"\\".repeat(40)))).collect();
        let text = parse(&json!({ "fieldErrors": fields })).field_errors.unwrap();
        assert!(
            text.len() <= MAX_FIELD_ERRORS_BYTES && text.len() > MAX_FIELD_ERRORS_BYTES / 2,
            "{}",
            text.len()
        );
        assert!(serde_json::from_str::<Map<String, Value>>(&text).unwrap().len() > 10);
    }

    #[test]
    fn a_body_that_is_no_object_says_nothing() {
        for body in [&b""[..], b"<html>", b"[]", b"null", b"\xff", br#"{"error": 7}"#] {
            assert_eq!(Problem::parse(body, None).to_string(), "no explanation");
        }
    }
}
