//! Error codes of `wasi:http` in a trace: under their names in the WIT, since wasmtime's type can be neither written
//! nor read.

use serde::{Deserialize, Serialize};
use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

/// An error code; what its case has. One without a payload is written as its name alone, which is also how somebody
/// says it who wants to know what the guest would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Code {
    /// Its case in the WIT.
    pub(super) code: String,
    /// `rcode`, `alert-message`, `field-name` or the words.
    text: Option<String>,
    /// `info-code`, `alert-id`, `field-size` or the size.
    number: Option<u64>,
    /// The payload of `HTTP-request-header-size` is there, though it may be empty.
    payload: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    Whole {
        code: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        payload: bool,
    },
}

impl From<Code> for Written {
    fn from(Code { code, text, number, payload }: Code) -> Self {
        match (text, number, payload) {
            (None, None, false) => Self::Name(code),
            (text, number, payload) => Self::Whole { code, text, number, payload },
        }
    }
}

impl From<Written> for Code {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(code) => Self { code, ..Self::default() },
            Written::Whole { code, text, number, payload } => Self { code, text, number, payload },
        }
    }
}

/// Whether both name one case: in the spelling of the WIT or of Rust.
fn is_same(one: &str, other: &str) -> bool {
    let letters =
        |text: &str| text.bytes().filter(|b| *b != b'-').map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    letters(one) == letters(other)
}

impl Code {
    fn new(code: &str, text: Option<&String>, number: Option<u64>) -> Self {
        Self { code: code.to_owned(), text: text.cloned(), number, payload: false }
    }

    fn field_size(&self) -> FieldSizePayload {
        FieldSizePayload { field_name: self.text.clone(), field_size: self.short() }
    }

    /// A number that is too large was never written.
    fn short<T: TryFrom<u64>>(&self) -> Option<T> {
        self.number.and_then(|number| T::try_from(number).ok())
    }
}

/// `codes!`: the cases without a payload, with an `option<u64>`, an `option<u32>`, an `option<string>` and a
/// `field-size-payload`; the other three are spelled out.
macro_rules! codes {
    (
        plain: { $($plain:ident $plain_name:literal)* }
        long: { $($long:ident $long_name:literal)* }
        short: { $($short:ident $short_name:literal)* }
        text: { $($text:ident $text_name:literal)* }
        field: { $($field:ident $field_name:literal)* }
    ) => {
        impl From<&ErrorCode> for Code {
            fn from(code: &ErrorCode) -> Self {
                match code {
                    $(ErrorCode::$plain => Self::new($plain_name, None, None),)*
                    $(ErrorCode::$long(size) => Self::new($long_name, None, *size),)*
                    $(ErrorCode::$short(size) => Self::new($short_name, None, size.map(u64::from)),)*
                    $(ErrorCode::$text(words) => Self::new($text_name, words.as_ref(), None),)*
                    $(ErrorCode::$field(field) => {
                        Self::new($field_name, field.field_name.as_ref(), field.field_size.map(u64::from))
                    })*
                    ErrorCode::DnsError(dns) => {
                        Self::new("DNS-error", dns.rcode.as_ref(), dns.info_code.map(u64::from))
                    }
                    ErrorCode::TlsAlertReceived(alert) => Self::new(
                        "TLS-alert-received",
                        alert.alert_message.as_ref(),
                        alert.alert_id.map(u64::from),
                    ),
                    ErrorCode::HttpRequestHeaderSize(field) => Self {
                        payload: field.is_some(),
                        ..Self::new(
                            "HTTP-request-header-size",
                            field.as_ref().and_then(|field| field.field_name.as_ref()),
                            field.as_ref().and_then(|field| field.field_size).map(u64::from),
                        )
                    },
                }
            }
        }

        impl Code {
            /// None: no version of the WIT has it.
            pub(super) fn error(&self) -> Option<ErrorCode> {
                Some(match self.code.as_str() {
                    $(code if is_same(code, $plain_name) => ErrorCode::$plain,)*
                    $(code if is_same(code, $long_name) => ErrorCode::$long(self.number),)*
                    $(code if is_same(code, $short_name) => ErrorCode::$short(self.short()),)*
                    $(code if is_same(code, $text_name) => ErrorCode::$text(self.text.clone()),)*
                    $(code if is_same(code, $field_name) => ErrorCode::$field(self.field_size()),)*
                    code if is_same(code, "DNS-error") => ErrorCode::DnsError(DnsErrorPayload {
                        rcode: self.text.clone(),
                        info_code: self.short(),
                    }),
                    code if is_same(code, "TLS-alert-received") => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
                        alert_id: self.short(),
                        alert_message: self.text.clone(),
                    }),
                    code if is_same(code, "HTTP-request-header-size") => {
                        ErrorCode::HttpRequestHeaderSize(self.payload.then(|| self.field_size()))
                    }
                    _ => return None,
                })
            }
        }
    };
}

codes! {
    plain: {
        DnsTimeout "DNS-timeout"
        DestinationNotFound "destination-not-found"
        DestinationUnavailable "destination-unavailable"
        DestinationIpProhibited "destination-IP-prohibited"
        DestinationIpUnroutable "destination-IP-unroutable"
        ConnectionRefused "connection-refused"
        ConnectionTerminated "connection-terminated"
        ConnectionTimeout "connection-timeout"
        ConnectionReadTimeout "connection-read-timeout"
        ConnectionWriteTimeout "connection-write-timeout"
        ConnectionLimitReached "connection-limit-reached"
        TlsProtocolError "TLS-protocol-error"
        TlsCertificateError "TLS-certificate-error"
        HttpRequestDenied "HTTP-request-denied"
        HttpRequestLengthRequired "HTTP-request-length-required"
        HttpRequestMethodInvalid "HTTP-request-method-invalid"
        HttpRequestUriInvalid "HTTP-request-URI-invalid"
        HttpRequestUriTooLong "HTTP-request-URI-too-long"
        HttpResponseIncomplete "HTTP-response-incomplete"
        HttpResponseTimeout "HTTP-response-timeout"
        HttpUpgradeFailed "HTTP-upgrade-failed"
        HttpProtocolError "HTTP-protocol-error"
        LoopDetected "loop-detected"
        ConfigurationError "configuration-error"
    }
    long: {
        HttpRequestBodySize "HTTP-request-body-size"
        HttpResponseBodySize "HTTP-response-body-size"
    }
    short: {
        HttpRequestHeaderSectionSize "HTTP-request-header-section-size"
        HttpRequestTrailerSectionSize "HTTP-request-trailer-section-size"
        HttpResponseHeaderSectionSize "HTTP-response-header-section-size"
        HttpResponseTrailerSectionSize "HTTP-response-trailer-section-size"
    }
    text: {
        HttpResponseTransferCoding "HTTP-response-transfer-coding"
        HttpResponseContentCoding "HTTP-response-content-coding"
        InternalError "internal-error"
    }
    field: {
        HttpRequestTrailerSize "HTTP-request-trailer-size"
        HttpResponseHeaderSize "HTTP-response-header-size"
        HttpResponseTrailerSize "HTTP-response-trailer-size"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_it_was() {
        let field = || FieldSizePayload { field_name: Some("x".into()), field_size: Some(7) };
        let none = || FieldSizePayload { field_name: None, field_size: None };
        let codes = [
            ErrorCode::DnsTimeout,
            ErrorCode::DnsError(DnsErrorPayload { rcode: Some("r".into()), info_code: Some(3) }),
            ErrorCode::DnsError(DnsErrorPayload { rcode: None, info_code: None }),
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id: Some(255), alert_message: None }),
            ErrorCode::HttpRequestDenied,
            ErrorCode::HttpRequestBodySize(Some(u64::MAX)),
            ErrorCode::HttpRequestBodySize(None),
            ErrorCode::HttpResponseHeaderSectionSize(Some(u32::MAX)),
            ErrorCode::HttpRequestHeaderSize(None),
            ErrorCode::HttpRequestHeaderSize(Some(none())),
            ErrorCode::HttpRequestHeaderSize(Some(field())),
            ErrorCode::HttpResponseTrailerSize(field()),
            ErrorCode::HttpResponseContentCoding(Some("gzip".into())),
            ErrorCode::InternalError(Some(String::new())),
            ErrorCode::InternalError(None),
        ];
        for code in codes {
            let written = longshore_proto::wire::encode(&Code::from(&code)).unwrap();
            let read: Code = longshore_proto::wire::decode(&written).unwrap();
            assert_eq!(format!("{:?}", read.error().unwrap()), format!("{code:?}"));
        }
    }

    #[test]
    fn a_name_is_enough_and_may_be_spelled_as_in_rust() {
        for name in ["connection-refused", "ConnectionRefused", "CONNECTION-REFUSED"] {
            let read: Code =
                longshore_proto::wire::decode(&longshore_proto::wire::encode(&name).unwrap()).unwrap();
            assert!(matches!(read.error(), Some(ErrorCode::ConnectionRefused)), "{name}");
        }
        let written = longshore_proto::wire::encode(&Code::from(&ErrorCode::ConnectionRefused)).unwrap();
        assert_eq!(longshore_proto::wire::decode::<String>(&written).unwrap(), "connection-refused");
    }

    #[test]
    fn a_code_that_no_interface_has_is_none() {
        assert!(Code { code: "HTTP-teapot".into(), ..Code::default() }.error().is_none());
    }
}
