//! An issuer of JWTs, whose keys are made for each test but for the RSA one (ring makes none).

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_access::AccessSettings;
use longshore_service::config::NatsConfig;
use longshore_service::nats::{self, Options, Watcher};
use longshore_tests::nats::Nats;
use longshore_tests::wait;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "longshore";

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub struct Issuer {
    pub folder: tempfile::TempDir,
    random: SystemRandom,
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        let issuer = Self {
            folder: tempfile::tempdir().unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(alg, ec.as_ref(), &random).unwrap(),
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("../data/rsa-2048.pk8.der")).unwrap(),
            random,
        };
        std::fs::write(issuer.file(), issuer.set().to_string()).unwrap();
        issuer
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    pub fn set(&self) -> Value {
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": b64(self.ed.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": b64(x), "y": b64(y)},
            {"kty": "RSA", "kid": "rsa", "n": b64(n), "e": b64(e)},
            {"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": b64([9; 256]), "e": "AQAB"},
        ]})
    }

    /// The public parts of the RSA key, as those who try to use them as an HMAC secret would write them.
    pub fn rsa_public(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    pub fn settings(&self) -> AccessSettings {
        self.settings_with(&[])
    }

    pub fn settings_with(&self, more: &[(&str, &str)]) -> AccessSettings {
        let file = self.file();
        let mut env = BTreeMap::from([
            ("LONGSHORE_JWT_ISSUER".to_owned(), ISSUER.to_owned()),
            ("LONGSHORE_JWT_AUDIENCE".to_owned(), AUDIENCE.to_owned()),
            ("LONGSHORE_JWT_JWKS_FILE".to_owned(), file.to_str().unwrap().to_owned()),
        ]);
        env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        AccessSettings::load(&env, ["test".to_owned()]).unwrap()
    }

    /// Signs as the key of this name does, whatever the header says.
    pub fn signature(&self, key: &str, message: &str) -> Vec<u8> {
        let message = message.as_bytes();
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &self.random, message, &mut signature).unwrap();
            signature
        };
        match key {
            "ed" => self.ed.sign(message).as_ref().to_vec(),
            "ec" => self.ec.sign(&self.random, message).unwrap().as_ref().to_vec(),
            "rsa" => rsa(&RSA_PKCS1_SHA256),
            "rsa512" => rsa(&RSA_PKCS1_SHA512),
            other => panic!("no key {other}"),
        }
    }

    /// A token of these texts, signed by this key.
    pub fn sign_texts(&self, key: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        format!("{message}.{}", b64(self.signature(key, &message)))
    }

    pub fn sign(&self, key: &str, header: &Value, claims: &Value) -> String {
        self.sign_texts(key, &header.to_string(), &claims.to_string())
    }

    /// A good token, with these claims besides or instead.
    pub fn token(&self, key: &str, more: Value) -> String {
        self.sign(key, &header(key), &merged(claims(), more))
    }
}

pub fn header(key: &str) -> Value {
    let alg = match key {
        "ed" => "EdDSA",
        "ec" => "ES256",
        _ => "RS256",
    };
    json!({"alg": alg, "kid": key, "typ": "JWT"})
}

pub fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

/// Claims of a good token of tenant `t`.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "t", "scope": "openid longshore:write",
        "iat": now(), "nbf": now(), "exp": now() + 300,
    })
}

/// The fields of `more` over those of `base`; a null removes one.
pub fn merged(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(name)),
            value => base[name] = value.clone(),
        }
    }
    base
}

pub async fn connect(server: &Nats, user: &str) -> (async_nats::Client, Watcher) {
    let env = BTreeMap::from([
        ("NATS_URL".to_owned(), server.url()),
        ("NATS_USER".to_owned(), user.to_owned()),
        ("NATS_PASSWORD".to_owned(), server.password(user).to_owned()),
    ]);
    let config = NatsConfig::load(&env, ["test".to_owned()]).unwrap();
    // As the processes of these users do.
    let inbox = if user == "control" { "_R.admin" } else { "_R.shim.js" };
    let options = Options { inbox_prefix: Some(inbox.to_owned()), ..Options::default() };
    let (client, mut link) = nats::connect("test", &config, options).await.unwrap();
    wait::within("a connection", wait::LIMIT, link.connected(1)).await.unwrap();
    (client, link)
}
