//! Ways into another tenant, all of them closed. Requests are written byte by byte, because clients repair some of what is tried here.

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_bundle::archive::pack_files;
use longshore_tests::admin::ADMIN_TOKEN;
use longshore_tests::{Admin, Stack, paths, wait};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::runs;

const VICTIM: &str = "victim-tenant";
const THIEF: &str = "thief-tenant";
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "longshore";
const SERVICE_TOKEN: &str = "a-service-token-for-tests-71c0";

/// What is only the victim's to know.
const CONFIG: &str = "canary-of-the-victims-config";

/// A request, and how it must be refused.
struct Way {
    name: &'static str,
    /// To the admin service instead of the gateway.
    admin: bool,
    request: String,
    status: u16,
    /// The code of `/api/ext`; empty elsewhere.
    code: &'static str,
}

fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "host") {
        text.push_str("host: gateway.example\r\n");
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text + "\r\n" + body
}

fn way(
    name: &'static str,
    line: String,
    headers: &[(&str, &str)],
    (status, code): (u16, &'static str),
) -> Way {
    Way { name, admin: false, request: request(&line, headers, ""), status, code }
}

/// Status, and everything that came back.
async fn send(to: SocketAddr, request: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = wait::within("an answer", wait::LIMIT, exchange).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {answer:?} to {request}")), answer)
}

/// An issuer of JWTs.
struct Issuer {
    key: Ed25519KeyPair,
    folder: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let issuer = Self {
            key: Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(issuer.file(), json!({ "keys": [issuer.public()] }).to_string()).unwrap();
        issuer
    }

    fn file(&self) -> String {
        self.folder.path().join("keys.json").to_str().unwrap().to_owned()
    }

    fn public(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": b64(self.key.public_key()) })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        format!("{message}.{}", b64(self.key.sign(message.as_bytes())))
    }

    /// A good one of the victim, but for `header` and `claims`.
    fn jwt(&self, header: Value, claims: Value) -> String {
        self.signed(&over(usual_header(), header), &over(usual_claims(), claims))
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn usual_header() -> Value {
    json!({ "alg": "EdDSA", "kid": "one", "typ": "JWT" })
}

fn usual_claims() -> Value {
    let now = now();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "tenant": VICTIM, "scope": "longshore:write", "iat": now, "exp": now + 600 })
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// `base` with the fields of `more`; a null removes one.
fn over(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

/// The guest that leaves a line for each run, and a page.
fn bundle(name: &str) -> Vec<u8> {
    let manifest = json!({
        "name": format!("com.longshore.test.{name}"), "publisher": "Longshore", "version": "1.0.0", "runtime": "wasm-js@1",
        "capabilities": ["cap:log.emit"],
        "ui": { "type": "iframe", "entry": "ui/index.html" },
        "api": { "endpoints": [
            { "method": "GET", "path": "/", "handler": "dist/main" },
            { "method": "POST", "path": "/", "handler": "dist/main" },
            { "method": "POST", "path": "/write", "handler": "dist/main" },
        ] },
    });
    let files = [
        ("manifest.json", manifest.to_string().into_bytes()),
        ("dist/main.wasm", paths::guest("count")),
        ("ui/index.html", format!("<!doctype html><title>{name}</title>").into_bytes()),
    ];
    pack_files(files, 3).unwrap()
}

/// A token and its id.
async fn token(admin: &Admin, tenant: &str, more: Value) -> (String, String) {
    let request = over(json!({ "access": "write" }), more);
    let made = admin.ok("POST", &format!("/v1/tenants/{tenant}/tokens"), request).await;
    (made["secret"].as_str().unwrap().to_owned(), made["token"]["id"].as_str().unwrap().to_owned())
}

fn text<'j>(json: &'j Value, name: &str) -> &'j str {
    json[name].as_str().unwrap_or_else(|| panic!("{name} in {json:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_ways_to_get_into_another_tenant() {
    let issuer = Issuer::new();
    let (stack, admin, [worker], gateway) = Stack::standalone(
        &[("LONGSHORE_GUEST_LOG", "stdout")],
        &[
            ("LONGSHORE_JWT_ISSUER", ISSUER),
            ("LONGSHORE_JWT_AUDIENCE", AUDIENCE),
            ("LONGSHORE_JWT_JWKS_FILE", &issuer.file()),
            ("RUNNER_SERVICE_TOKEN", SERVICE_TOKEN),
            ("LONGSHORE_EXECUTE_AUTH", "require"),
            ("EXT_STATIC_STRICT_VALIDATION", "yes"),
        ],
    )
    .await;
    let options = json!({ "config": { "who": CONFIG }, "hosts": ["vault.example"] });
    let victim = admin.install(VICTIM, &bundle("vault"), options).await["install"].clone();
    let thief = admin.install(THIEF, &bundle("crowbar"), json!({})).await["install"].clone();
    let other = admin.install(VICTIM, &bundle("cellar"), json!({})).await["install"].clone();

    let (own, _) = token(&admin, THIEF, json!({})).await;
    let (good, good_id) = token(&admin, VICTIM, json!({})).await;
    let (read, _) = token(&admin, VICTIM, json!({ "access": "read" })).await;
    let (narrow, _) = token(&admin, VICTIM, json!({ "extensions": [text(&other, "extension")] })).await;
    let (revoked, revoked_id) = token(&admin, VICTIM, json!({})).await;
    admin.ok("DELETE", &format!("/v1/tenants/{VICTIM}/tokens/{revoked_id}"), Value::Null).await;
    let (expired, expired_id) = token(&admin, VICTIM, json!({ "expires_in_s": 1 })).await;
    wait::until("the end of a token's life", wait::LIMIT, async || {
        let list = admin.ok("GET", &format!("/v1/tenants/{VICTIM}/tokens"), Value::Null).await;
        let over =
            list["tokens"].as_array().unwrap().iter().any(|t| t["id"] == expired_id && t["expired"] == true);
        if over { Ok(()) } else { Err(list.to_string()) }
    })
    .await;

    // That everybody gets in where they belong shows that what follows is refused for its own reason.
    let at = gateway.address();
    let (name, id) = ("com.longshore.test.vault", text(&victim, "install_id"));
    let bearer = |token: &str| format!("Bearer {token}");
    for (tenant, to, token) in [
        ("victim", name, bearer(&good)),
        ("reader", id, bearer(&read)),
        ("jwt", id, bearer(&issuer.jwt(json!({}), json!({})))),
        ("thief", "com.longshore.test.crowbar", bearer(&own)),
    ] {
        let line = format!("GET /api/ext/{to}/?id={tenant}");
        let (status, answer) = send(at, &request(&line, &[("authorization", &token)], "")).await;
        assert_eq!(status, 200, "{tenant}: {answer}");
    }
    // A gateway has heard of the revocation when it refuses.
    wait::until("the refusal of a revoked token", wait::LIMIT, async || {
        let line = format!("GET /api/ext/{name}/none");
        match send(at, &request(&line, &[("authorization", &bearer(&revoked))], "")).await {
            (401, _) => Ok(()),
            (_, answer) => Err(answer),
        }
    })
    .await;

    let ways = [
        by_name(&victim, &thief, &own),
        by_credential(name, &own, &good, &good_id, [&revoked, &expired, &read, &narrow]),
        by_jwt(name, &issuer),
        by_other_doors(&victim, &thief, &own),
    ];
    let ways: Vec<Way> = ways.into_iter().flatten().collect();
    assert!(ways.len() >= 30, "{} ways", ways.len());
    let before = runs([worker.lines()]);
    let secrets = [
        VICTIM,
        "vault",
        CONFIG,
        id,
        text(&victim, "extension"),
        text(&victim["version"], "content_hash"),
        text(&victim["version"], "version_id"),
        &good_id,
    ];
    let mut wrong = Vec::new();
    for way in &ways {
        let to = if way.admin { admin.service.address() } else { at };
        let (status, answer) = send(to, &way.request).await;
        let code =
            answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        let code = code.and_then(|body| body["code"].as_str().map(str::to_owned)).unwrap_or_default();
        if status != way.status || (!way.code.is_empty() && code != way.code) {
            wrong.push(format!(
                "{}: {status} {code:?} instead of {} {:?}: {answer}",
                way.name, way.status, way.code
            ));
        }
        let lower = answer.to_lowercase();
        if let Some(secret) =
            secrets.iter().find(|secret| lower.contains(secret.trim_start_matches("sha256:")))
        {
            wrong.push(format!("{}: the answer names {secret}: {answer}", way.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ways.len(), wrong.join("\n"));
    // A guest's line is on its way before its answer is: none of all this has run.
    assert_eq!(runs([worker.lines()]), before);
    drop(stack);
}

const ABSENT: (u16, &str) = (404, "extension_not_found");
const MISMATCH: (u16, &str) = (403, "tenant_mismatch");
const STRANGER: (u16, &str) = (401, "unauthenticated");
const FORBIDDEN: (u16, &str) = (403, "forbidden");

/// With a good token of one's own: other names for the victim and what it has.
fn by_name(victim: &Value, thief: &Value, own: &str) -> Vec<Way> {
    let own = format!("Bearer {own}");
    let (name, mine) = (text(victim, "name"), text(thief, "install_id"));
    let (id, extension, slug) = (text(victim, "install_id"), text(victim, "extension"), text(victim, "slug"));
    let get = |name: &'static str, target: &str, refused| {
        way(name, format!("GET /api/ext/{target}"), &[("authorization", &own)], refused)
    };
    let with = |name: &'static str, target: &str, more: &[(&str, &str)], refused| {
        let mut headers = vec![("authorization", own.as_str())];
        headers.extend(more);
        way(name, format!("GET /api/ext/{target}/"), &headers, refused)
    };
    let wide: String =
        name.chars().map(|c| if c == 'v' { "%EF%BD%96".to_owned() } else { c.to_string() }).collect();
    vec![
        get("install id", &format!("{id}/"), ABSENT),
        get("registry id", &format!("{extension}/"), ABSENT),
        get("name", &format!("{name}/"), ABSENT),
        get("slug", &format!("{slug}/"), ABSENT),
        get("name in upper case", &format!("{}/", name.to_uppercase()), ABSENT),
        get("install id in upper case", &format!("{}/", id.to_uppercase()), ABSENT),
        get("encoded dot", &format!("{}/", name.replace('.', "%2e")), ABSENT),
        get("encoded twice", &format!("{}/", name.replace('.', "%252e")), ABSENT),
        get("encoded slash", &format!("{mine}%2f..%2f{name}/"), ABSENT),
        get("wide letters", &format!("{wide}/"), ABSENT),
        get("end of string", &format!("{name}%00/"), ABSENT),
        get("blank behind it", &format!("{name}%20/"), ABSENT),
        get("tenant before it", &format!("{VICTIM}%2F{name}/"), ABSENT),
        get("key in the bucket", &format!("{VICTIM}.{extension}/"), ABSENT),
        get("wildcard", "*/", ABSENT),
        get("all of NATS", "%3E/", ABSENT),
        get("empty segment", &format!("/{name}/"), ABSENT),
        get("climbing", &format!("{mine}/../{name}/"), (400, "invalid_request")),
        get("climbing, encoded", &format!("{mine}/%2e%2e/{name}/"), (400, "invalid_request")),
        get("climbing with a backslash", &format!("{mine}/..%5c{name}/"), (400, "invalid_request")),
        get("climbing out", "../../v1/installs", ABSENT),
        with("x-alga-tenant", name, &[("x-alga-tenant", VICTIM)], MISMATCH),
        with("x-tenant-id", name, &[("x-tenant-id", VICTIM)], MISMATCH),
        with("x-alga-tenant in upper case", name, &[("X-ALGA-TENANT", "VICTIM-TENANT")], MISMATCH),
        with("two tenants", mine, &[("x-alga-tenant", THIEF), ("x-alga-tenant", VICTIM)], MISMATCH),
        with("a list of tenants", mine, &[("x-alga-tenant", "thief-tenant, victim-tenant")], MISMATCH),
        with("x-alga-extension", name, &[("x-alga-extension", extension)], ABSENT),
        get("tenant in the query", &format!("{mine}/?tenant={VICTIM}"), MISMATCH),
        get("second tenant in the query", &format!("{mine}/?tenant={THIEF}&tenant={VICTIM}"), MISMATCH),
        get("encoded tenant in the query", &format!("{mine}/?%74enant=victim%2Dtenant"), MISMATCH),
        with("host of the victim", name, &[("host", "vault.example")], ABSENT),
        with(
            "forwarded host",
            name,
            &[("x-forwarded-host", "vault.example"), ("forwarded", "host=vault.example")],
            ABSENT,
        ),
        with("forwarded path", name, &[("x-original-url", "/"), ("x-rewrite-url", "/")], ABSENT),
        way(
            "absolute form",
            format!("GET http://vault.example/api/ext/{id}/"),
            &[("authorization", &own)],
            ABSENT,
        ),
    ]
}

/// With a credential that is not what it seems.
fn by_credential(
    name: &str,
    own: &str,
    good: &str,
    good_id: &str,
    [revoked, expired, read, narrow]: [&str; 4],
) -> Vec<Way> {
    let get = |way_name: &'static str, headers: &[(&str, &str)], refused| {
        way(way_name, format!("GET /api/ext/{name}/"), headers, refused)
    };
    let bearer = |way_name: &'static str, token: &str, refused| {
        get(way_name, &[("authorization", &format!("Bearer {token}"))], refused)
    };
    // lst_<id>_<secret>: the victim's id, which is no secret, with a secret of one's own.
    let crossed = format!("lst_{good_id}_{}", own.rsplit('_').next().unwrap());
    let (mine, theirs) = (format!("Bearer {own}"), format!("Bearer {good}"));
    let reader = format!("Bearer {read}");
    let post = |way_name: &'static str, target: &str, headers: &[(&str, &str)], refused| {
        let mut all = vec![("authorization", reader.as_str())];
        all.extend(headers);
        way(way_name, format!("{target} "), &all, refused)
    };
    let target = |method: &str, path: &str| format!("{method} /api/ext/{name}{path}");
    let trimmed = |mut way: Way| {
        way.request = way.request.replacen("  HTTP", " HTTP", 1);
        way
    };
    vec![
        get("nothing", &[], STRANGER),
        get("tenant and nothing else", &[("x-alga-tenant", VICTIM)], STRANGER),
        bearer("revoked token", revoked, STRANGER),
        bearer("expired token", expired, STRANGER),
        bearer("cut token", &good[..good.len() - 1], STRANGER),
        bearer("longer token", &format!("{good}0"), STRANGER),
        bearer("token in upper case", &good.to_uppercase(), STRANGER),
        bearer("token of another id", &crossed, STRANGER),
        bearer("token's id", good_id, STRANGER),
        bearer("service token", SERVICE_TOKEN, STRANGER),
        bearer("admin token", ADMIN_TOKEN, STRANGER),
        get("two credentials", &[("authorization", &mine), ("authorization", &theirs)], STRANGER),
        get("two credentials in one", &[("authorization", &format!("{mine}, {theirs}"))], STRANGER),
        get("as a password", &[("authorization", &format!("Basic {}", b64(format!("x:{good}"))))], STRANGER),
        get("in a cookie", &[("cookie", &format!("token={good}; authorization={good}"))], STRANGER),
        get("in another header", &[("x-api-key", good), ("proxy-authorization", &theirs)], STRANGER),
        way("in the query", format!("GET /api/ext/{name}/?access_token={good}&token={good}"), &[], STRANGER),
        bearer("token of another extension", narrow, FORBIDDEN),
        trimmed(post("writing with a reader's", &target("POST", "/"), &[], FORBIDDEN)),
        trimmed(post(
            "writing, called reading",
            &target("POST", "/write"),
            &[("x-http-method-override", "GET"), ("x-method-override", "GET")],
            FORBIDDEN,
        )),
        trimmed(post(
            "reading, called writing",
            &target("GET", "/write"),
            &[("x-http-method-override", "POST"), ("x-http-method", "POST")],
            (404, "endpoint_not_found"),
        )),
        trimmed(post(
            "method in the query",
            &target("GET", "/write?_method=POST&__method=POST"),
            &[],
            (404, "endpoint_not_found"),
        )),
        trimmed(post("unknown method", &target("PROPFIND", "/"), &[], FORBIDDEN)),
    ]
}

/// With a JWT.
fn by_jwt(name: &str, issuer: &Issuer) -> Vec<Way> {
    let stranger = Issuer::new();
    let get = |way_name: &'static str, jwt: String, refused| {
        way(
            way_name,
            format!("GET /api/ext/{name}/"),
            &[("authorization", &format!("Bearer {jwt}"))],
            refused,
        )
    };
    let head = |way_name: &'static str, header: Value| get(way_name, issuer.jwt(header, json!({})), STRANGER);
    let claims =
        |way_name: &'static str, claims: Value| get(way_name, issuer.jwt(json!({}), claims), STRANGER);
    let parts =
        |header: &Value, claims: &Value| format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let unsigned = parts(&over(usual_header(), json!({ "alg": "none" })), &usual_claims());
    let symmetric = parts(&over(usual_header(), json!({ "alg": "HS256" })), &usual_claims());
    let hs256 = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("{symmetric}.{}", b64(hmac::sign(&key, symmetric.as_bytes())))
    };
    let good = issuer.jwt(json!({}), json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let thiefs = issuer.jwt(json!({}), json!({ "tenant": THIEF }));
    let thiefs_signature = thiefs.rsplit('.').next().unwrap();
    let (now, forged) = (now(), stranger.jwt(json!({}), json!({})));
    let with_own_key = over(usual_header(), json!({ "jwk": stranger.public() }));
    vec![
        get("alg none", format!("{unsigned}."), STRANGER),
        get("alg none with a signature", format!("{unsigned}.{signature}"), STRANGER),
        get(
            "alg NonE",
            format!("{}.", parts(&json!({ "alg": "NonE", "kid": "one" }), &usual_claims())),
            STRANGER,
        ),
        get("public key as a secret", hs256(issuer.key.public_key().as_ref()), STRANGER),
        get("key set as a secret", hs256(&std::fs::read(issuer.file()).unwrap()), STRANGER),
        get("empty secret", hs256(b""), STRANGER),
        head("another alg", json!({ "alg": "ES256" })),
        get("signature cut off", format!("{signed}."), STRANGER),
        get("no signature", signed.to_owned(), STRANGER),
        get("signature of another", format!("{signed}.{thiefs_signature}"), STRANGER),
        get("signed by a stranger", forged, STRANGER),
        get("a stranger's key inside", stranger.signed(&with_own_key, &usual_claims()), STRANGER),
        get(
            "a stranger's key elsewhere",
            stranger.jwt(
                json!({ "jku": "http://127.0.0.1:1/keys.json", "x5u": "http://127.0.0.1:1/" }),
                json!({}),
            ),
            STRANGER,
        ),
        get("kid is a path", stranger.jwt(json!({ "kid": stranger.file() }), json!({})), STRANGER),
        get("kid climbs", stranger.jwt(json!({ "kid": "../../../../dev/null" }), json!({})), STRANGER),
        head("unknown kid", json!({ "kid": "two" })),
        head("kid is a list", json!({ "kid": ["one"] })),
        head("unknown extension of the format", json!({ "crit": ["exp"] })),
        claims("wrong audience", json!({ "aud": "another" })),
        claims("no audience", json!({ "aud": null })),
        claims("wrong issuer", json!({ "iss": "https://evil.example" })),
        claims("issuer and more", json!({ "iss": format!("{ISSUER}/") })),
        claims("expired", json!({ "exp": now - 600 })),
        claims("without an end", json!({ "exp": null })),
        claims("the end is a text", json!({ "exp": "9999999999" })),
        claims("not yet", json!({ "nbf": now + 600 })),
        claims("list of tenants", json!({ "tenant": [THIEF, VICTIM] })),
        claims("object of tenants", json!({ "tenant": { VICTIM: true } })),
        claims("no tenant", json!({ "tenant": null })),
        claims("tenant with a wildcard", json!({ "tenant": "*" })),
        claims("no right", json!({ "scope": "openid" })),
        get("tenant in other letters", issuer.jwt(json!({}), json!({ "tenant": "Victim-Tenant" })), ABSENT),
        way(
            "writing with a reader's JWT",
            format!("POST /api/ext/{name}/"),
            &[(
                "authorization",
                &format!("Bearer {}", issuer.jwt(json!({}), json!({ "scope": "longshore:read" }))),
            )],
            FORBIDDEN,
        ),
    ]
}

/// Through routes that are not for callers, or not for this one.
fn by_other_doors(victim: &Value, thief: &Value, own: &str) -> Vec<Way> {
    let bearer = format!("Bearer {own}");
    let (id, extension) = (text(victim, "install_id"), text(victim, "extension"));
    let hash = text(&victim["version"], "content_hash");
    let hex = hash.trim_start_matches("sha256:");
    let mine = text(thief, "extension");
    let run = json!({
        "context": { "request_id": "r", "tenant_id": VICTIM, "extension_id": extension, "install_id": id, "content_hash": hash, "config": {} },
        "http": { "method": "GET", "path": "/?id=executed" },
        "limits": { "timeout_ms": 5_000 },
    })
    .to_string();
    let warm = json!({ "tenant_id": VICTIM, "extension_id": extension, "content_hash": hash }).to_string();
    let door = |name: &'static str, line: &str, headers: &[(&str, &str)], body: &str, status: u16| {
        let mut all = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        all.extend(headers);
        Way { name, admin: false, request: request(line, &all, body), status, code: "" }
    };
    let admin = |name: &'static str, line: String, headers: &[(&str, &str)], body: &str| Way {
        admin: true,
        ..door(name, &line, headers, body, 401)
    };
    let routing = [("x-alga-tenant", VICTIM), ("x-alga-extension", extension)];
    let posing = [routing[0], routing[1], ("x-runner-service-token", own)];
    vec![
        door("execute", "POST /v1/execute", &routing, &run, 401),
        door("execute as a service", "POST /v1/execute", &posing, &run, 401),
        door("warm-up", "POST /warmup", &[], &warm, 401),
        door("warm-up as a service", "POST /warmup", &[("x-runner-service-token", own)], &warm, 401),
        door(
            "pages as one's own tenant",
            &format!("GET /ext-ui/{extension}/{hex}/?tenant={THIEF}"),
            &[],
            "",
            404,
        ),
        door(
            "pages by header",
            &format!("GET /ext-ui/{extension}/{hex}/"),
            &[("x-tenant-id", THIEF)],
            "",
            404,
        ),
        door(
            "pages of one's own extension",
            &format!("GET /ext-ui/{mine}/{hex}/?tenant={THIEF}"),
            &[],
            "",
            404,
        ),
        door("pages of nobody", &format!("GET /ext-ui/{extension}/{hex}/"), &[], "", 404),
        door(
            "proxy of the development page",
            &format!("POST /api/ext-proxy/{id}/?__method=GET"),
            &[],
            "",
            404,
        ),
        door("extension in the host's name", "GET /", &[("host", "vault")], "", 404),
        admin("install of the victim", format!("GET /v1/tenants/{VICTIM}/installs/{id}"), &[], ""),
        admin(
            "token for the victim",
            format!("POST /v1/tenants/{VICTIM}/tokens"),
            &[],
            r#"{"access":"write"}"#,
        ),
        admin(
            "calls of the victim",
            format!("GET /v1/calls?tenant={VICTIM}"),
            &[("x-tenant-id", VICTIM)],
            "",
        ),
    ]
}
