//! "What if this call had failed": answers that somebody wishes, and errors for calls that were not recorded. How a
//! function writes its results and errors is taken from what the trace has of it.

use bytes::Bytes;
use rmpv::Value as Packed;
use serde_json::Value;

use crate::script::{Answer, Script};
use crate::value;

/// A wished answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Override {
    /// An error of the WIT, `not-allowed`.
    Error(String),
    /// A result; JSON in the shape that `replay --step` shows, or only what stands under `Ok` there.
    Result(Value),
}

/// Not `N=error:CASE` and not `N=result:JSON`, or the call cannot be answered so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The text.
    #[error(
        "{0:?} is no override: N=error:CASE or N=result:JSON, N being the number of a recorded host call"
    )]
    Syntax(String),
    /// The JSON in it.
    #[error("the result of override {0} is no JSON")]
    Json(u32),
    /// There is none with this number.
    #[error("the trace has no host call {0}: it has {1}")]
    NoSuchCall(u32, usize),
    /// Its function gives no error.
    #[error("host call {0} ({1}) cannot fail: its function has no error")]
    CannotFail(u32, String),
}

/// Reads `N=error:CASE` or `N=result:JSON`.
///
/// # Errors
/// It is neither.
pub fn parse_override(text: &str) -> Result<(u32, Override), OverrideError> {
    let syntax = || OverrideError::Syntax(crate::printable::line(text, 100));
    let (number, wished) = text.split_once('=').ok_or_else(syntax)?;
    let number: u32 = number.trim().parse().map_err(|_| syntax())?;
    match wished.split_once(':') {
        Some(("error", case)) if !case.trim().is_empty() => {
            Ok((number, Override::Error(case.trim().to_owned())))
        }
        Some(("result", json)) => match serde_json::from_str(json) {
            Ok(value) => Ok((number, Override::Result(value))),
            Err(_) => Err(OverrideError::Json(number)),
        },
        _ => Err(syntax()),
    }
}

impl Override {
    /// Whether the recorded call of this number can be answered so.
    ///
    /// # Errors
    /// There is no such call, or its function has no error.
    pub fn check(&self, script: &Script, number: u32) -> Result<(), OverrideError> {
        let none = || OverrideError::NoSuchCall(number, script.calls.len());
        let call = script.calls.get(number as usize).ok_or_else(none)?;
        match self.result(script, &call.function, call.answer.as_ref()) {
            Some(_) => Ok(()),
            None => Err(OverrideError::CannotFail(number, crate::printable::line(&call.function, 100))),
        }
    }

    /// As the host function reads it; none: the function has no such answer.
    pub(super) fn result(&self, script: &Script, function: &str, recorded: Option<&Answer>) -> Option<Bytes> {
        let like = recorded.and_then(|a| a.result.bytes()).map(|bytes| value::unpack(bytes));
        let made = match self {
            Self::Error(case) => {
                let like = like.or_else(|| shapes(script, function).next())?;
                error_like(&like, case, shapes(script, function))?
            }
            Self::Result(json) => {
                let like = like.or_else(|| shapes(script, function).next());
                let whole = json.as_object().is_some_and(|o| o.contains_key("Ok") || o.contains_key("Err"));
                match like
                    .as_ref()
                    .and_then(|like| value::field(like, "Ok").or_else(|| value::field(like, "Err")))
                {
                    Some(_) if !whole => {
                        let ok = like.as_ref().and_then(|like| value::field(like, "Ok").cloned());
                        let ok = ok.or_else(|| {
                            shapes(script, function).find_map(|l| value::field(&l, "Ok").cloned())
                        });
                        Packed::Map(vec![("Ok".into(), value::packed_like(json, ok.as_ref()))])
                    }
                    _ => value::packed_like(json, like.as_ref()),
                }
            }
        };
        Some(value::pack(&made).into())
    }
}

/// An error for a call that was not recorded: one that the function gave in this trace, or its general one.
pub(super) fn error_of(script: &Script, function: &str) -> Option<Bytes> {
    let failed = shapes(script, function).find(|like| value::field(like, "Err").is_some());
    let case = if function.starts_with("user") { "not-available" } else { "internal" };
    let made = match (failed, shapes(script, function).next()) {
        (Some(error), _) => error,
        (None, Some(like)) => {
            error_like(&like, case, std::iter::empty()).or_else(|| of_no_trace(function, case))?
        }
        (None, None) => of_no_trace(function, case)?,
    };
    Some(value::pack(&made).into())
}

/// What a function gives when it fails, or what is nothing, where the trace has none of its results: most functions of
/// this host give a result or an error, the others are here. None: it cannot fail, and what it gives cannot be made up.
fn of_no_trace(function: &str, case: &str) -> Option<Packed> {
    let failed = |fields: &[&str]| {
        let known = [("success", Packed::Boolean(false)), ("error", Packed::from(case))];
        let known = known.into_iter().map(|(name, value)| (Packed::from(name), value));
        Packed::Map(known.chain(fields.iter().map(|name| (Packed::from(*name), Packed::Nil))).collect())
    };
    let interface = function.split('.').next().unwrap_or_default();
    match function {
        "secrets.list-keys" => Some(Packed::Array(Vec::new())),
        "scheduler.create-schedule" => Some(failed(&["schedule_id", "field_errors"])),
        "scheduler.update-schedule" => Some(failed(&["field_errors"])),
        "scheduler.delete-schedule" => Some(failed(&[])),
        _ if interface == "logging" => Some(Packed::Nil),
        _ if interface == "invoicing" => {
            let fields =
                ["invoice_id", "invoice_number", "status", "subtotal", "tax", "total", "field_errors"];
            Some(failed(&fields))
        }
        _ if interface == "context" || function.contains(':') => None,
        _ => Some(error(Packed::from(camel(case)))),
    }
}

/// Results that the trace has of a function.
fn shapes<'s>(script: &'s Script, function: &'s str) -> impl Iterator<Item = Packed> + 's {
    let answers = script.calls.iter().filter(move |call| call.function == function);
    answers.filter_map(|call| call.answer.as_ref()?.result.bytes()).map(|bytes| value::unpack(bytes))
}

/// An error in the way of a function that gives such results.
fn error_like(like: &Packed, case: &str, mut others: impl Iterator<Item = Packed>) -> Option<Packed> {
    // Records that say `success` themselves.
    if value::field(like, "success").is_some() {
        let fields = like.as_map()?.iter().map(|(key, value)| {
            let value = match key.as_str() {
                Some("success") => Packed::Boolean(false),
                Some("error") => case.into(),
                _ => value.clone(),
            };
            (key.clone(), value)
        });
        return Some(Packed::Map(fields.collect()));
    }
    let is_result = value::field(like, "Ok").is_some() || value::field(like, "Err").is_some();
    if !is_result {
        return None;
    }
    // As another error of the function is spelled.
    let known =
        value::field(like, "Err").cloned().or_else(|| others.find_map(|l| value::field(&l, "Err").cloned()));
    let kebab =
        known.as_ref().and_then(Packed::as_str).is_some_and(|text| text.starts_with(char::is_lowercase));
    Some(error(Packed::from(if kebab { case.to_owned() } else { camel(case) })))
}

fn error(case: Packed) -> Packed {
    Packed::Map(vec![("Err".into(), case)])
}

/// `not-allowed` as `NotAllowed`.
fn camel(case: &str) -> String {
    let capital = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|c| c.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    case.split(['-', '_']).map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_override("3=error:not-allowed"), Ok((3, Override::Error("not-allowed".into()))));
        assert_eq!(
            parse_override("0=result:{\"a\":1}"),
            Ok((0, Override::Result(serde_json::json!({"a": 1}))))
        );
        assert_eq!(parse_override("0=result:{"), Err(OverrideError::Json(0)));
        for text in ["", "3", "x=error:a", "3=error:", "3=delay:5", "-1=error:a"] {
            assert!(matches!(parse_override(text), Err(OverrideError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn errors_are_spelled_as_the_function_spells_them() {
        let ok = Packed::Map(vec![("Ok".into(), Packed::Nil)]);
        let err = Packed::Map(vec![("Err".into(), "not-found".into())]);
        let none = std::iter::empty;
        assert_eq!(error_like(&ok, "not-allowed", none()), Some(error("NotAllowed".into())));
        assert_eq!(error_like(&err, "not-allowed", none()), Some(error("not-allowed".into())));
        assert_eq!(error_like(&ok, "not-allowed", std::iter::once(err)), Some(error("not-allowed".into())));
        assert_eq!(error_like(&Packed::Nil, "x", none()), None);
        let record = Packed::Map(vec![("success".into(), true.into()), ("error".into(), Packed::Nil)]);
        let failed = Packed::Map(vec![("success".into(), false.into()), ("error".into(), "x".into())]);
        assert_eq!(error_like(&record, "x", none()), Some(failed));
    }
}
