//! Answers read without `managedFields`, for whoever looks at names, labels and owners only: most of
//! an object's metadata is in there, in very many small maps.
//!
//! Invariant: apart from that field, what is read is what serde_json reads.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

const LEFT_OUT: &str = "managedFields";

pub(super) fn slim(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes).map(|Slim(value)| value)
}

struct Slim(Value);

impl<'de> Deserialize<'de> for Slim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Slim(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == LEFT_OUT {
                let _nothing: IgnoredAny = map.next_value()?;
                continue;
            }
            let Slim(value) = map.next_value()?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_is_left_out_and_all_else_is_read() {
        let text = r#"{"items": [{"metadata": {"name": "a\u00e9", "managedFields": [{"f:x": {}}], "n": [1, -2,
            0.1, 18446744073709551615, null, true, {}]}}], "e": []}"#;
        let mut whole: Value = serde_json::from_str(text).unwrap();
        if let Some(metadata) = whole["items"][0]["metadata"].as_object_mut() {
            metadata.remove(LEFT_OUT);
        }
        assert_eq!(slim(text.as_bytes()).unwrap(), whole);
        for broken in ["", "{", "{\"managedFields\": [}", "[1 2]", "{} x"] {
            assert!(slim(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
