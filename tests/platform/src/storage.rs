//! `ext-storage`: records with revisions, quotas and the cursor that skips one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::answer::{Answer, Outcome};
use crate::fields::{Fields, iso};
use crate::state::State;

const MAX_NAMESPACES: usize = 32;
const MAX_KEYS: usize = 5_120;
const MAX_VALUE: usize = 64 * 1024;
const MAX_METADATA: usize = 4 * 1024;
const MAX_TOTAL: usize = 256 * 1024 * 1024;
const MAX_BULK: usize = 20;
const MAX_BULK_BYTES: usize = 512 * 1024;
const TTL_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 60 * 60;
const DEFAULT_LIMIT: u64 = 25;
const MAX_LIMIT: u64 = 100;

/// An install's records.
#[derive(Default)]
pub(crate) struct Storage {
    namespaces: BTreeMap<String, BTreeMap<String, Record>>,
    bytes: usize,
}

struct Record {
    revision: u64,
    value: Value,
    metadata: Value,
    bytes: usize,
    expires: Option<OffsetDateTime>,
    created: OffsetDateTime,
    updated: OffsetDateTime,
}

/// What a write says.
struct Put {
    key: String,
    value: Value,
    metadata: Value,
    expires: Option<OffsetDateTime>,
    if_revision: Option<u64>,
    bytes: usize,
}

/// Answers a request.
pub(crate) fn answer(state: &mut State, install: &str, body: &Value) -> Outcome {
    let fields = Fields::of(body)?;
    let namespace = fields.text("namespace", 128)?;
    let storage = &mut state.install(install)?.storage;
    storage.expire(OffsetDateTime::now_utc());
    match fields.get("operation").and_then(Value::as_str) {
        Some("get") => storage.get(namespace, key(&fields)?, fields.integer("ifRevision", 0, u64::MAX)?),
        Some("put") => {
            let put = put(&fields)?;
            storage
                .put_all(namespace, vec![put])
                .map(|mut written| Answer::ok(written.pop().unwrap_or_default()))
        }
        Some("bulkPut") => storage.bulk_put(namespace, &fields),
        Some("delete") => {
            storage.delete(namespace, key(&fields)?, fields.integer("ifRevision", 0, u64::MAX)?)
        }
        Some("list") => storage.list(namespace, &fields),
        _ => Err(Answer::shape("operation", "Invalid enum value")),
    }
}

fn refused(message: &str) -> Answer {
    Answer::error(400, "VALIDATION_FAILED", message)
}

fn over(message: &str) -> Answer {
    Answer::error(400, "LIMIT_EXCEEDED", message)
}

fn quota(message: &str) -> Answer {
    Answer::error(429, "QUOTA_EXCEEDED", message)
}

fn mismatch() -> Answer {
    Answer::error(409, "REVISION_MISMATCH", "ifRevision did not match stored revision")
}

fn key<'a>(fields: &Fields<'a>) -> Result<&'a str, Answer> {
    let key = fields.text("key", 256)?;
    if key.contains('/') {
        return Err(refused("key must be 1-256 characters and must not contain \"/\""));
    }
    Ok(key)
}

fn put(fields: &Fields<'_>) -> Result<Put, Answer> {
    let key = key(fields)?.to_owned();
    let value = fields.get("value").cloned().unwrap_or_default();
    let metadata = match fields.get("metadata") {
        None => Value::Object(Map::new()),
        Some(metadata) if metadata.is_object() => metadata.clone(),
        Some(_) => return Err(Answer::shape("metadata", "Expected object")),
    };
    let expires = match fields.integer("ttlSeconds", 1, u64::MAX)? {
        None => None,
        Some(ttl) if TTL_SECONDS.contains(&ttl) => {
            let ttl = Duration::seconds(i64::try_from(ttl).unwrap_or(i64::MAX));
            OffsetDateTime::now_utc().checked_add(ttl)
        }
        Some(_) => return Err(over("ttlSeconds must be 60 to 2592000")),
    };
    let (value_bytes, metadata_bytes) = (value.to_string().len(), metadata.to_string().len());
    if value_bytes > MAX_VALUE {
        return Err(over(&format!("value exceeds max size of {MAX_VALUE} bytes")));
    }
    if metadata_bytes > MAX_METADATA {
        return Err(over(&format!("metadata exceeds max size of {MAX_METADATA} bytes")));
    }
    let if_revision = fields.integer("ifRevision", 0, u64::MAX)?;
    Ok(Put { key, value, metadata, expires, if_revision, bytes: value_bytes + metadata_bytes })
}

impl Storage {
    pub(crate) fn seeded(seed: &BTreeMap<String, BTreeMap<String, Value>>) -> Self {
        let mut storage = Self::default();
        let now = OffsetDateTime::now_utc();
        for (namespace, records) in seed {
            for (key, value) in records {
                let metadata = Value::Object(Map::new());
                let bytes = value.to_string().len() + metadata.to_string().len();
                storage.bytes += bytes;
                let record = Record {
                    revision: 1,
                    value: value.clone(),
                    metadata,
                    bytes,
                    expires: None,
                    created: now,
                    updated: now,
                };
                storage.namespaces.entry(namespace.clone()).or_default().insert(key.clone(), record);
            }
        }
        storage
    }

    fn expire(&mut self, now: OffsetDateTime) {
        let bytes = &mut self.bytes;
        for records in self.namespaces.values_mut() {
            records.retain(|_, record| {
                let alive = record.expires.is_none_or(|at| at > now);
                if !alive {
                    *bytes -= record.bytes;
                }
                alive
            });
        }
        self.namespaces.retain(|_, records| !records.is_empty());
    }

    fn record(&self, namespace: &str, key: &str) -> Option<&Record> {
        self.namespaces.get(namespace)?.get(key)
    }

    fn get(&self, namespace: &str, key: &str, if_revision: Option<u64>) -> Outcome {
        let record =
            self.record(namespace, key).ok_or_else(|| Answer::error(404, "NOT_FOUND", "record not found"))?;
        if if_revision.is_some_and(|r| r != record.revision) {
            return Err(mismatch());
        }
        Ok(Answer::ok(record.json(namespace, key, true, true)))
    }

    /// Writes all or nothing.
    fn put_all(&mut self, namespace: &str, puts: Vec<Put>) -> Result<Vec<Value>, Answer> {
        for put in &puts {
            let stored = self.record(namespace, &put.key).map(|r| r.revision);
            if put.if_revision.is_some() && put.if_revision != stored {
                return Err(mismatch());
            }
        }
        let keys = self.namespaces.get(namespace).map_or(0, BTreeMap::len);
        let new = puts.iter().filter(|p| self.record(namespace, &p.key).is_none()).count();
        if new > 0 && keys + new > MAX_KEYS {
            return Err(quota(&format!("namespace {namespace} exceeded key quota")));
        }
        if keys == 0 && self.namespaces.len() >= MAX_NAMESPACES {
            return Err(quota("namespace quota exceeded"));
        }
        let freed: usize = puts.iter().filter_map(|p| Some(self.record(namespace, &p.key)?.bytes)).sum();
        let total = self.bytes - freed + puts.iter().map(|p| p.bytes).sum::<usize>();
        if total > MAX_TOTAL {
            return Err(quota("total storage quota exceeded"));
        }
        self.bytes = total;
        let now = OffsetDateTime::now_utc();
        let records = self.namespaces.entry(namespace.to_owned()).or_default();
        let mut written = Vec::new();
        for put in puts {
            let (revision, created) = records.get(&put.key).map_or((1, now), |r| (r.revision + 1, r.created));
            let record = Record {
                revision,
                value: put.value,
                metadata: put.metadata,
                bytes: put.bytes,
                expires: put.expires,
                created,
                updated: now,
            };
            written.push(record.json(namespace, &put.key, false, false));
            records.insert(put.key, record);
        }
        Ok(written)
    }

    fn bulk_put(&mut self, namespace: &str, fields: &Fields<'_>) -> Outcome {
        let items = fields.get("items").and_then(Value::as_array).filter(|i| !i.is_empty());
        let items = items.ok_or_else(|| Answer::shape("items", "Required"))?;
        if items.len() > MAX_BULK {
            return Err(over(&format!("bulk operations limited to {MAX_BULK} items")));
        }
        let puts = items.iter().map(|item| put(&Fields::of(item)?)).collect::<Result<Vec<_>, _>>()?;
        let mut keys: Vec<&str> = puts.iter().map(|p| p.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < puts.len() {
            return Err(refused("duplicate key in bulk payload"));
        }
        if puts.iter().map(|p| p.bytes).sum::<usize>() > MAX_BULK_BYTES {
            return Err(over(&format!("bulk payload exceeds {MAX_BULK_BYTES} bytes")));
        }
        let written = self.put_all(namespace, puts)?;
        Ok(Answer::ok(json!({ "namespace": namespace, "items": written })))
    }

    fn delete(&mut self, namespace: &str, key: &str, if_revision: Option<u64>) -> Outcome {
        let Some(record) = self.record(namespace, key) else {
            return Ok(Answer::ok(json!({ "success": false })));
        };
        if if_revision.is_some_and(|r| r != record.revision) {
            return Err(mismatch());
        }
        if let Some(records) = self.namespaces.get_mut(namespace)
            && let Some(record) = records.remove(key)
        {
            self.bytes -= record.bytes;
            if records.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
        Ok(Answer::ok(json!({ "success": true })))
    }

    fn list(&self, namespace: &str, fields: &Fields<'_>) -> Outcome {
        let limit = fields.integer("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let prefix = fields.optional_text("keyPrefix", 256)?.unwrap_or_default();
        let values = fields.flag("includeValues")?.unwrap_or_default();
        let metadata = fields.flag("includeMetadata")?.unwrap_or_default();
        let after = match fields.optional_text("cursor", usize::MAX)?.filter(|c| !c.is_empty()) {
            Some(cursor) => decode_cursor(cursor).ok_or_else(|| refused("cursor is invalid or corrupted"))?,
            None => String::new(),
        };
        let empty = BTreeMap::new();
        let records = self.namespaces.get(namespace).unwrap_or(&empty);
        let mut rest =
            records.iter().filter(|(key, _)| key.starts_with(prefix) && (after.is_empty() || **key > after));
        let items: Vec<Value> =
            rest.by_ref().take(limit).map(|(key, r)| r.json(namespace, key, values, metadata)).collect();
        // The real one's mistake: this names the first record that was not returned, and a page begins after what its cursor names.
        let next = rest.next().map(|(key, _)| encode_cursor(key));
        Ok(Answer::ok(json!({ "items": items, "nextCursor": next })))
    }
}

impl Record {
    fn json(&self, namespace: &str, key: &str, value: bool, metadata: bool) -> Value {
        let mut json = json!({
            "namespace": namespace,
            "key": key,
            "revision": self.revision,
            "ttlExpiresAt": self.expires.map(iso),
            "createdAt": iso(self.created),
            "updatedAt": iso(self.updated),
        });
        if let Some(json) = json.as_object_mut() {
            if value {
                json.insert("value".to_owned(), self.value.clone());
            }
            if metadata {
                json.insert("metadata".to_owned(), self.metadata.clone());
            }
        }
        json
    }
}

fn encode_cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "key": key }).to_string())
}

fn decode_cursor(cursor: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    Some(json.get("key")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::seed::Seed;

    use super::*;

    fn state() -> State {
        State::new(Seed::default())
    }

    fn ask(state: &mut State, body: &Value) -> (u16, Value) {
        match answer(state, "i-1", body) {
            Ok(answer) | Err(answer) => (answer.status, answer.body),
        }
    }

    fn put(key: &str, more: &Value) -> Value {
        let mut body = json!({ "operation": "put", "namespace": "ns", "key": key, "value": 1 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    #[test]
    fn following_its_own_cursor_skips_a_record_as_the_real_one_does() {
        let state = &mut state();
        for n in 0..5 {
            ask(state, &put(&format!("k{n}"), &json!({})));
        }
        let list = |state: &mut State, cursor: &Value| {
            let mut body = json!({ "operation": "list", "namespace": "ns", "limit": 2 });
            if !cursor.is_null() {
                body["cursor"] = cursor.clone();
            }
            let page = ask(state, &body).1;
            let keys: Vec<_> = page["items"].as_array().unwrap().iter().map(|i| i["key"].clone()).collect();
            (keys, page["nextCursor"].clone())
        };
        let (first, cursor) = list(state, &Value::Null);
        assert_eq!(first, ["k0", "k1"]);
        let (second, cursor) = list(state, &cursor);
        assert_eq!(second, ["k3", "k4"]);
        assert_eq!(cursor, Value::Null);
    }

    #[test]
    fn limits_have_the_real_ones_codes() {
        let state = &mut state();
        for (more, status, code) in [
            (json!({ "value": "x".repeat(MAX_VALUE) }), 400, "LIMIT_EXCEEDED"),
            (json!({ "metadata": { "m": "x".repeat(MAX_METADATA) } }), 400, "LIMIT_EXCEEDED"),
            (json!({ "ttlSeconds": 59 }), 400, "LIMIT_EXCEEDED"),
            (json!({ "key": "a/b" }), 400, "VALIDATION_FAILED"),
            (json!({ "ifRevision": 1 }), 409, "REVISION_MISMATCH"),
        ] {
            let (is, body) = ask(state, &put("k", &more));
            assert_eq!((is, body["code"].as_str()), (status, Some(code)));
        }
        // An optional field must not be null.
        assert_eq!(ask(state, &put("k", &json!({ "ifRevision": null }))).0, 400);
        assert_eq!(ask(state, &json!({ "operation": "get", "namespace": "ns", "key": "k" })).0, 404);
    }

    #[test]
    fn a_record_is_gone_after_its_time() {
        let state = &mut state();
        assert_eq!(ask(state, &put("k", &json!({ "ttlSeconds": 60 }))).0, 200);
        let storage = &mut state.install("i-1").unwrap().storage;
        let now = OffsetDateTime::now_utc();
        storage.expire(now + Duration::seconds(50));
        assert!(storage.record("ns", "k").is_some() && storage.bytes > 0);
        storage.expire(now + Duration::seconds(70));
        assert!(storage.record("ns", "k").is_none() && storage.bytes == 0);
    }

    #[test]
    fn a_bulk_write_is_all_or_nothing() {
        let state = &mut state();
        ask(state, &put("b", &json!({})));
        let bulk = |revision: u64| {
            json!({ "operation": "bulkPut", "namespace": "ns",
                "items": [{ "key": "a", "value": 1 }, { "key": "b", "value": 2, "ifRevision": revision }] })
        };
        assert_eq!(ask(state, &bulk(9)).0, 409);
        assert!(state.install("i-1").unwrap().storage.record("ns", "a").is_none());
        let (status, body) = ask(state, &bulk(1));
        assert_eq!((status, &body["items"][1]["revision"]), (200, &json!(2)));
    }
}
