//! The checking of one JWT (RFC 7519 over RFC 7515, with the advice of RFC 8725). Pure: text, keys, rules and the time in, an answer out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_proto::TenantId;
use serde_json::Value;

use super::json::Object;
use super::keys::{Keys, MAX_KID_BYTES};
use crate::{Access, AccessSettings, Credential, Denied, Principal};

/// The longest JWT. Issuers that put groups into it reach 4 KiB; a request's whole header ends at 16 KiB or less.
pub(crate) const MAX_JWT_BYTES: usize = 8 * 1024;

/// The longest subject that a log line takes.
const MAX_SUBJECT_CHARS: usize = 256;

/// Words of the access claim.
const WRITE: &str = "longshore:write";
const READ: &str = "longshore:read";

/// Header fields that bring keys along, or say where to get some: who signs must not choose who is believed. `crit` and `b64` change what
/// is signed, `zip` and `enc` what is read; a token that needs any of them is no plain JWT.
const REFUSED_HEADERS: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"];

/// Types of tokens that may be presented here. One that is typed as something else (a logout token, a proof of possession) was signed for
/// another purpose, though by the same key.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

const fn invalid(reason: &'static str) -> Denied {
    Denied::Invalid(reason)
}

/// Who the bearer is. The signature is looked at before anything that the token claims.
pub(super) fn check(text: &str, keys: &Keys, rules: &AccessSettings, now: i64) -> Result<Principal, Denied> {
    let claims = signed(text, keys)?;
    in_force(&claims, rules, now)?;
    principal(&claims, rules)
}

/// The claims, once their signature has proved to be one of the keys'.
fn signed(text: &str, keys: &Keys) -> Result<Object, Denied> {
    if text.len() > MAX_JWT_BYTES {
        return Err(invalid("a JWT of over 8 KiB"));
    }
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid("a JWT has three parts"));
    };
    // The engine takes the one canonical spelling only: no padding, no blanks, no stray bits at the end.
    let bytes =
        |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("a part of the JWT is no base64url"));
    let header_json = Object::parse(&bytes(header)?)
        .ok_or(invalid("the JWT's header is no JSON object, or has a name twice"))?;
    if REFUSED_HEADERS.iter().any(|name| header_json.has(name)) {
        return Err(invalid("the JWT's header brings keys or extensions along"));
    }
    let field = |name| header_json.text(name).map_err(|()| invalid("a field of the JWT's header is no text"));
    if let Some(typ) = field("typ")? {
        // `application/` may be left out, and media types have no case (RFC 7515, 4.1.9).
        let short = typ.get(..12).filter(|head| head.eq_ignore_ascii_case("application/"));
        let name = short.and_then(|_| typ.get(12..)).unwrap_or(typ);
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(invalid("the JWT is of a type that is for something else"));
        }
    }
    let alg = field("alg")?.ok_or(invalid("the JWT's header names no algorithm"))?;
    let kid = field("kid")?.ok_or(invalid("the JWT's header names no key"))?;
    if kid.len() > MAX_KID_BYTES {
        return Err(invalid("the JWT's key is not among the issuer's"));
    }
    let key = keys.get(kid).ok_or(invalid("the JWT's key is not among the issuer's"))?;
    if !key.takes(alg) {
        return Err(invalid("the JWT's algorithm is not its key's"));
    }
    let signature = bytes(signature)?;
    // `header.claims`, as it came.
    let message = text.get(..header.len() + 1 + claims.len()).unwrap_or_default();
    if !key.verifies(message.as_bytes(), &signature) {
        return Err(invalid("the JWT's signature is wrong"));
    }
    Object::parse(&bytes(claims)?).ok_or(invalid("the JWT's claims are no JSON object, or have a name twice"))
}

/// Whether it was issued by whom, for whom, and for a time that has begun and not ended.
fn in_force(claims: &Object, rules: &AccessSettings, now: i64) -> Result<(), Denied> {
    // A list of issuers is nothing that RFC 7519 knows.
    let issuer = claims.text("iss").ok().flatten();
    if !issuer.is_some_and(|issuer| rules.issuers.iter().any(|known| known == issuer)) {
        return Err(invalid("the JWT is of another issuer"));
    }
    let audience = rules.audience.as_deref().ok_or(invalid("no JWT is taken here"))?;
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => {
            several.iter().all(Value::is_string) && several.iter().any(|one| one == audience)
        }
        _ => false,
    };
    if !for_us {
        return Err(invalid("the JWT is for another audience"));
    }
    // Numbers may have a fraction (RFC 7519, 2), so all is reckoned in floating point: exact to the microsecond in this century.
    let (now, leeway) = (now as f64, rules.leeway.get().as_secs_f64());
    let date = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|at| at.is_finite() && *at >= 0.0)
            .map(Some)
            .ok_or(invalid("a time in the JWT is no number of seconds")),
    };
    let (expires, begins, issued) = (date("exp")?, date("nbf")?, date("iat")?);
    let expires = expires.ok_or(invalid("the JWT never expires"))?;
    if now >= expires + leeway {
        return Err(Denied::Expired);
    }
    if begins.is_some_and(|begins| now + leeway < begins) {
        return Err(invalid("the JWT is not valid yet"));
    }
    if issued.is_some_and(|issued| now + leeway < issued) {
        return Err(invalid("the JWT was issued in the future"));
    }
    Ok(())
}

/// For which tenant, and what for.
fn principal(claims: &Object, rules: &AccessSettings) -> Result<Principal, Denied> {
    // A list would be a bearer of several tenants: which one a call is for would then be the caller's to say.
    let tenant = claims
        .text(&rules.tenant_claim)
        .ok()
        .flatten()
        .and_then(|text| text.parse::<TenantId>().ok())
        .ok_or(invalid("the JWT names no tenant, or something that is none"))?;
    let words: Vec<&str> = match claims.get(&rules.access_claim) {
        None => Vec::new(),
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|word| word.as_str().ok_or(invalid("the JWT's access claim is no list of words")))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(invalid("the JWT's access claim is no text")),
    };
    let access = if words.contains(&WRITE) {
        Some(Access::Write)
    } else if words.contains(&READ) {
        Some(Access::Read)
    } else {
        rules.default_access.access()
    };
    let access = access.ok_or(invalid("the JWT allows neither longshore:read nor longshore:write"))?;
    let subject = claims.text("sub").map_err(|()| invalid("the JWT's subject is no text"))?;
    // For logs and audit only; what would break a line there is not the whole subject any more.
    let subject = subject.map(|text| {
        text.chars().take(MAX_SUBJECT_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    });
    Ok(Principal { tenant, access, extensions: None, credential: Credential::Jwt(subject) })
}
