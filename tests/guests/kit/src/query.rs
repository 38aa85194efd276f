//! The query of a relative url, form-decoded: `+` is a space and `%xx` a byte.

/// The parameters of one request, in order.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the first `?` of `url`.
    pub fn of(url: &str) -> Self {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        Self(
            query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value given for `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value given for `name`, or `default`.
    pub fn or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).unwrap_or(default)
    }

    /// Every value given for `name`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `name` was given, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The number given for `name`, or `default` when there is none.
    ///
    /// # Errors
    /// The name, when its value is no number.
    pub fn number<'a>(&self, name: &'a str, default: u64) -> Result<u64, &'a str> {
        self.get(name).map_or(Ok(default), |value| value.parse().map_err(|_| name))
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next(), bytes.next()]
                    .map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                if let [Some(high), Some(low)] = digits {
                    out.push((high * 16 + low) as u8);
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
