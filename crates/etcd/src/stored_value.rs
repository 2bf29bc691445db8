//! What Kubernetes keeps under a key: JSON, its protobuf envelope, or either encrypted.
//!
//! The envelope is `k8s\0` and the message `runtime.Unknown`: `1 type {1 apiVersion, 2 kind} ·
//! 2 the object · 3 its encoding · 4 its media type`. In every object of Kubernetes' own groups
//! field 1 is `ObjectMeta`. Encrypted values begin with `k8s:enc:PROVIDER:VERSION:KEY:`.
//!
//! Invariant: nothing here is trusted; what is not understood is `Other`, with its bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::wire::{Fields, InvalidMessage, Value, bytes_field};

const ENVELOPE: &[u8] = b"k8s\0";
const ENCRYPTED: &[u8] = b"k8s:enc:";
/// A key's name in an encryption configuration is short; more is not one.
const PREFIX_BYTES_MAX: usize = 300;

/// A value, recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredValue<'a> {
    /// A JSON document.
    Json(serde_json::Value),
    /// An object in Kubernetes' envelope.
    Protobuf(Envelope<'a>),
    /// It can be read only with the API server's encryption configuration.
    Encrypted {
        /// `aescbc:v1:key1`.
        how: String,
    },
    /// Anything else.
    Other,
}

/// An object in Kubernetes' envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// What every object has.
    pub metadata: Metadata,
    /// The object's own message, without the envelope.
    pub raw: &'a [u8],
}

/// Part of an object's `ObjectMeta`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for cluster-wide ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its identity.
    pub uid: String,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl<'a> StoredValue<'a> {
    /// Recognises a value.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        if let Some(rest) = bytes.strip_prefix(ENCRYPTED) {
            return Self::Encrypted {
                how: encryption(rest),
            };
        }
        if let Some(message) = bytes.strip_prefix(ENVELOPE) {
            return Envelope::decode(message).map_or(Self::Other, Self::Protobuf);
        }
        match bytes.first() {
            Some(b'{' | b'[') => serde_json::from_slice(bytes).map_or(Self::Other, Self::Json),
            _ => Self::Other,
        }
    }

    /// One word for lists.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::Protobuf(_) => "protobuf",
            Self::Encrypted { .. } => "encrypted",
            Self::Other => "bytes",
        }
    }

    /// Its kind with group and version, `apps/v1 Deployment`; none where nothing says it.
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        match self {
            Self::Json(json) => {
                let text = |key| json.get(key).and_then(serde_json::Value::as_str);
                Some(format!("{} {}", text("apiVersion")?, text("kind")?))
            }
            Self::Protobuf(envelope) => Some(format!("{} {}", envelope.api_version, envelope.kind)),
            Self::Encrypted { .. } | Self::Other => None,
        }
    }
}

fn encryption(rest: &[u8]) -> String {
    let head = rest.get(..rest.len().min(PREFIX_BYTES_MAX)).unwrap_or(rest);
    let parts: Vec<&[u8]> = head.split(|b| *b == b':').take(3).collect();
    let text: Vec<_> = parts
        .iter()
        .map(|part| String::from_utf8_lossy(part))
        .collect();
    match text.as_slice() {
        // Without the colon behind it, the last part is ciphertext.
        [provider, version, key] if head.len() > provider.len() + version.len() + key.len() + 2 => {
            format!("{provider}:{version}:{key}")
        }
        [provider, ..] if parts.len() > 1 => provider.clone().into_owned(),
        _ => "unknown".to_owned(),
    }
}

impl<'a> Envelope<'a> {
    fn decode(message: &'a [u8]) -> Result<Self, InvalidMessage> {
        let kind = bytes_field(message, 1)?;
        let raw = bytes_field(message, 2)?;
        Ok(Self {
            api_version: text(bytes_field(kind, 1)?),
            kind: text(bytes_field(kind, 2)?),
            metadata: bytes_field(raw, 1)
                .and_then(Metadata::decode)
                .unwrap_or_default(),
            raw,
        })
    }

    /// Strings and bytes of the maps that people look for in ConfigMaps and Secrets; empty for
    /// other kinds. Values of Secrets are bytes, as the base64 of their JSON form says.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, &'a [u8]> {
        let fields: &[u32] = match (self.api_version.as_str(), self.kind.as_str()) {
            ("v1", "ConfigMap") => &[2, 3],
            ("v1", "Secret") => &[2],
            _ => &[],
        };
        let mut data = BTreeMap::new();
        for (number, value) in Fields::of(self.raw).map_while(Result::ok) {
            if let Value::Bytes(entry) = value
                && fields.contains(&number)
                && let (Ok(key), Ok(value)) = (bytes_field(entry, 1), bytes_field(entry, 2))
            {
                data.insert(text(key), value);
            }
        }
        data
    }
}

impl Metadata {
    fn decode(message: &[u8]) -> Result<Self, InvalidMessage> {
        let mut this = Self::default();
        for field in Fields::of(message) {
            let (number, Value::Bytes(bytes)) = field? else {
                continue;
            };
            match number {
                1 => this.name = text(bytes),
                3 => this.namespace = text(bytes),
                5 => this.uid = text(bytes),
                11 | 12 => {
                    let (key, value) = (bytes_field(bytes, 1)?, bytes_field(bytes, 2)?);
                    let map = match number {
                        11 => &mut this.labels,
                        _ => &mut this.annotations,
                    };
                    map.insert(text(key), text(value));
                }
                _ => {}
            }
        }
        Ok(this)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::push_bytes;

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, bytes) in fields {
            push_bytes(&mut message, *number, bytes);
        }
        message
    }

    fn config_map() -> Vec<u8> {
        let label = message(&[(1, b"app"), (2, b"shop")]);
        let metadata = message(&[(1, b"settings"), (3, b"prod"), (5, b"u-1"), (11, &label)]);
        let entry = message(&[(1, b"colour"), (2, b"green")]);
        let raw = message(&[(1, &metadata), (2, &entry)]);
        let kind = message(&[(1, b"v1"), (2, b"ConfigMap")]);
        [
            ENVELOPE,
            &message(&[(1, &kind), (2, &raw), (3, b""), (4, b"")]),
        ]
        .concat()
    }

    #[test]
    fn an_envelope_names_its_object() {
        let bytes = config_map();
        let value = StoredValue::of(&bytes);
        assert_eq!(value.kind().as_deref(), Some("v1 ConfigMap"));
        let StoredValue::Protobuf(envelope) = value else {
            panic!("{value:?}");
        };
        let metadata = Metadata {
            name: "settings".into(),
            namespace: "prod".into(),
            uid: "u-1".into(),
            labels: BTreeMap::from([("app".into(), "shop".into())]),
            annotations: BTreeMap::new(),
        };
        assert_eq!(envelope.metadata, metadata);
        assert_eq!(
            envelope.data(),
            BTreeMap::from([("colour".to_owned(), b"green".as_slice())])
        );
    }

    #[test]
    fn a_cut_or_flipped_envelope_is_other_or_less_and_no_panic() {
        let whole = config_map();
        for cut in 0..whole.len() {
            let value = StoredValue::of(&whole[..cut]);
            if let StoredValue::Protobuf(envelope) = value {
                assert!(envelope.raw.len() < whole.len());
            }
        }
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                if let StoredValue::Protobuf(envelope) = StoredValue::of(&damaged) {
                    let _data = envelope.data();
                }
            }
        }
    }

    #[test]
    fn encrypted_values_are_named_by_their_key() {
        for (bytes, expected) in [
            (
                b"k8s:enc:aescbc:v1:key1:\x00\xFF".as_slice(),
                "aescbc:v1:key1",
            ),
            (b"k8s:enc:kms:v2:cloud:x", "kms:v2:cloud"),
            (b"k8s:enc:secretbox:\xFF", "secretbox"),
            (b"k8s:enc:", "unknown"),
        ] {
            let how = expected.to_owned();
            assert_eq!(StoredValue::of(bytes), StoredValue::Encrypted { how });
        }
    }

    #[test]
    fn json_and_anything_else() {
        let json = StoredValue::of(br#"{"apiVersion":"v1","kind":"Pod"}"#);
        assert_eq!(json.kind().as_deref(), Some("v1 Pod"));
        assert_eq!(StoredValue::of(b"{cut"), StoredValue::Other);
        assert_eq!(StoredValue::of(b""), StoredValue::Other);
    }
}
