//! The reply multiplexer: one wildcard inbox subscription for a process, and a map from the random token at the end
//! of a reply subject to whoever waits for it. The client's own `request()` keeps an entry for every request that is
//! never answered (async-nats 0.51); here a guard removes the entry when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_proto::Token;
use parking_lot::Mutex;

/// Who waits for which token. `T` says what arrives there.
#[derive(Debug)]
pub struct Routes<T> {
    map: Arc<Mutex<HashMap<Token, T>>>,
}

impl<T> Clone for Routes<T> {
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map) }
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<T: Clone> Routes<T> {
    /// A new token that leads to `target` for as long as the guard lives.
    pub fn add(&self, target: T) -> RouteGuard<T> {
        let token = Token::random();
        self.map.lock().insert(token, target);
        RouteGuard { routes: self.clone(), token }
    }

    /// Where a token leads. None: forged, or nobody waits any more.
    pub fn get(&self, token: Token) -> Option<T> {
        self.map.lock().get(&token).cloned()
    }

    /// Tokens in use.
    pub fn len(&self) -> usize {
        self.map.lock().len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keeps a token alive.
#[derive(Debug)]
pub struct RouteGuard<T> {
    routes: Routes<T>,
    token: Token,
}

impl<T> RouteGuard<T> {
    /// The token for the reply subject.
    pub fn token(&self) -> Token {
        self.token
    }
}

impl<T> Drop for RouteGuard<T> {
    fn drop(&mut self) {
        self.routes.map.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_exactly_as_long_as_its_guard() {
        let routes = Routes::default();
        let guard = routes.add("here");
        assert_eq!(routes.get(guard.token()), Some("here"));
        assert_eq!(routes.get(Token::random()), None);
        drop(guard);
        assert!(routes.is_empty());
    }
}
