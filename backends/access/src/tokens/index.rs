//! The tokens that a gateway knows.

use std::collections::HashMap;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::record::{RecordError, Stored, TokenRecord, key_of};
use super::text::{Presented, SecretHash, TokenId};
use crate::Denied;

/// What is compared when there is no such token. A hash nobody knows a text for; even a match would not let anybody in.
const DUMMY: SecretHash = SecretHash([0xA5; 32]);

pub(super) struct Index {
    tokens: HashMap<TokenId, (Arc<TokenRecord>, SecretHash)>,
    max: usize,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeftOut {
    #[error("the record cannot be used")]
    Record(#[source] RecordError),
    #[error("there are {0} tokens already")]
    Full(usize),
}

impl Index {
    pub(super) fn new(max: usize) -> Self {
        Self { tokens: HashMap::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// A record is there, or another than before. One that cannot be read takes the place of the one before: that one is refused from now on.
    pub(super) fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), LeftOut> {
        let read = Stored::decode(key, bytes);
        self.remove(key);
        let (record, hash) = read.map_err(LeftOut::Record)?;
        if self.tokens.len() >= self.max {
            return Err(LeftOut::Full(self.tokens.len()));
        }
        self.tokens.insert(record.id, (Arc::new(record), hash));
        Ok(())
    }

    /// What was stored there has gone.
    pub(super) fn remove(&mut self, key: &str) {
        let Some(id) = key.rsplit('.').next().and_then(|id| id.parse::<TokenId>().ok()) else { return };
        if self.tokens.get(&id).is_some_and(|(record, _)| key_of(&record.tenant, id) == key) {
            self.tokens.remove(&id);
        }
    }

    /// Forgets those that are refused anyway.
    pub(super) fn forget_expired(&mut self, now: OffsetDateTime) {
        self.tokens.retain(|_, (record, _)| !record.has_expired(now));
    }

    /// The record of the token, if its secret is right and its time is not over. One comparison of 32 bytes whatever is wrong; only who
    /// has the secret learns that it has expired.
    pub(super) fn check(
        &self,
        presented: &Presented,
        now: OffsetDateTime,
    ) -> Result<Arc<TokenRecord>, Denied> {
        let found = self.tokens.get(&presented.id);
        let hash = found.map_or(&DUMMY, |(_, hash)| hash);
        let right: bool = hash.0.ct_eq(&presented.hash.0).into();
        match found {
            None => Err(Denied::Invalid("no such token: never issued, revoked or long expired")),
            Some(_) if !right => Err(Denied::Invalid("the token's secret is wrong")),
            Some((record, _)) if record.has_expired(now) => Err(Denied::Expired),
            Some((record, _)) => Ok(record.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_service::config::Secret;

    use super::super::{record, text};
    use super::*;
    use crate::Access;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn stored(tenant: &str) -> (Secret, String, Vec<u8>) {
        let (secret, id, hash) = text::issue();
        let record = TokenRecord {
            v: record::version(),
            id,
            tenant: tenant.parse().unwrap(),
            access: Access::Read,
            extensions: None,
            traces: false,
            label: String::new(),
            created_at: at(0),
            expires_at: at(100),
            created_by: String::new(),
        };
        let key = key_of(&record.tenant, id);
        (secret, key, Stored::new(record, hash).encode().unwrap())
    }

    fn check(index: &Index, text: &str, now: i64) -> Result<String, Denied> {
        index.check(&text::parse(text).unwrap(), at(now)).map(|record| record.tenant.to_string())
    }

    #[test]
    fn a_token_is_taken_until_it_expires_or_is_removed() {
        let mut index = Index::new(10);
        let (secret, key, bytes) = stored("t.1");
        assert!(matches!(check(&index, secret.expose(), 1), Err(Denied::Invalid(_))));
        index.put(&key, &bytes).unwrap();
        assert_eq!(check(&index, secret.expose(), 99), Ok("t.1".to_owned()));
        assert_eq!(check(&index, secret.expose(), 100), Err(Denied::Expired));
        index.remove(&key);
        assert!(matches!(check(&index, secret.expose(), 1), Err(Denied::Invalid(_))));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn an_expired_token_is_forgotten_in_time() {
        let mut index = Index::new(10);
        let (_, key, bytes) = stored("t");
        index.put(&key, &bytes).unwrap();
        index.forget_expired(at(99));
        assert_eq!(index.len(), 1);
        index.forget_expired(at(100));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_damaged_record_locks_its_token_out_and_nobody_elses_removal_touches_it() {
        let mut index = Index::new(10);
        let (secret, key, bytes) = stored("t");
        index.put(&key, &bytes).unwrap();
        // Of the same id, elsewhere.
        let id = key.rsplit('.').next().unwrap();
        index.remove(&format!("u.{id}"));
        assert!(matches!(index.put(&format!("u.{id}"), &bytes), Err(LeftOut::Record(RecordError::Place))));
        assert!(check(&index, secret.expose(), 1).is_ok());
        assert!(matches!(index.put(&key, b"{"), Err(LeftOut::Record(_))));
        assert!(check(&index, secret.expose(), 1).is_err());
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut index = Index::new(2);
        let all: Vec<_> = (0..3).map(|_| stored("t")).collect();
        for (_, key, bytes) in &all[..2] {
            index.put(key, bytes).unwrap();
        }
        assert!(matches!(index.put(&all[2].1, &all[2].2), Err(LeftOut::Full(2))));
        // One that is there already can change.
        index.put(&all[0].1, &all[0].2).unwrap();
        index.remove(&all[0].1);
        index.put(&all[2].1, &all[2].2).unwrap();
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn the_secret_of_one_token_does_not_open_another() {
        let mut index = Index::new(10);
        let ((one, key, bytes), (other, other_key, other_bytes)) = (stored("t"), stored("u"));
        index.put(&key, &bytes).unwrap();
        index.put(&other_key, &other_bytes).unwrap();
        let (mine, theirs) = (text::parse(one.expose()).unwrap(), text::parse(other.expose()).unwrap());
        let mixed = Presented { id: theirs.id, hash: mine.hash };
        assert_eq!(index.check(&mixed, at(1)).err(), Some(Denied::Invalid("the token's secret is wrong")));
    }
}
