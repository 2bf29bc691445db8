//! A Secret as a document whose names everybody can read, and whose values only those who hold a
//! key: the format of SOPS, which `sops`, Flux and Argo CD plugins open.
//!
//! One data key encrypts all values of a run, each under a random number of its own and bound to
//! its place; the data key is encrypted for each recipient. A code over all values, encrypted too,
//! shows whether one was exchanged.
//!
//! Invariant: no value of `data`, `stringData` or an annotation leaves in plain text (kubectl keeps
//! a copy of what it applied in an annotation).

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::secret::Secret;
use serde_json::{Map, Value, json};

use crate::yaml;

/// Values below fields of these names are encrypted.
const ENCRYPTED: [&str; 3] = ["data", "stringData", "annotations"];
/// The same, as documents say it.
const ENCRYPTED_REGEX: &str = "^(data|stringData|annotations)$";
/// The version of SOPS whose format this is.
const VERSION: &str = "3.7.3";
/// The field that holds everything but the object.
const FIELD: &str = "sops";
/// The length of a data key.
pub const DATA_KEY_BYTES: usize = 32;

/// Why a document could not be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SopsError {
    /// It is no object.
    #[error("cannot read the Secret")]
    Document(#[source] yaml::YamlError),
    /// It has fields where the format's own belong, or is no object.
    #[error("the document is no Secret")]
    Shape,
    /// The key is none.
    #[error("the data key must have {DATA_KEY_BYTES} bytes")]
    Key,
    /// The cryptography failed.
    #[error("a value could not be encrypted")]
    Encrypt,
}

/// What encrypts the Secrets of a run.
pub struct Sealer {
    key: RandomizedNonceKey,
    /// Who can read: the public key, and the data key encrypted for it.
    recipients: Vec<(String, String)>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Encrypts by `key`, which `recipients` can read: public keys of age, each with the data key
    /// encrypted for it.
    ///
    /// # Errors
    /// The key has another length.
    pub fn new(key: &Secret, recipients: Vec<(String, String)>) -> Result<Self, SopsError> {
        let key =
            RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(|_| SopsError::Key)?;
        Ok(Self { key, recipients })
    }

    /// Encrypts one document, which was last changed at `modified` (RFC 3339).
    ///
    /// # Errors
    /// It is no object, or the cryptography failed.
    pub fn seal(&self, document: &[u8], modified: &str) -> Result<Vec<u8>, SopsError> {
        let mut object = yaml::read(document).map_err(SopsError::Document)?;
        let fields = object.as_object_mut().ok_or(SopsError::Shape)?;
        if fields.contains_key(FIELD) {
            return Err(SopsError::Shape);
        }
        let mut walk = Walk {
            sealer: self,
            path: Vec::new(),
            all: digest::Context::new(&digest::SHA512),
        };
        let names: Vec<String> = yaml::in_order(fields)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(value) = fields.get_mut(&name) {
                walk.below(&name, value)?;
            }
        }
        let code: String = walk
            .all
            .finish()
            .as_ref()
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let code = self.value(&code, modified, "str")?;
        let mut text = yaml::write(&object);
        text.push_str(&yaml::write(
            &json!({ FIELD: self.metadata(&code, modified) }),
        ));
        Ok(text.into_bytes())
    }

    fn metadata(&self, code: &str, modified: &str) -> Value {
        let age = self.recipients.iter();
        let age: Vec<Value> = age
            .map(|(recipient, sealed)| json!({"recipient": recipient, "enc": sealed}))
            .collect();
        json!({
            "age": age,
            "encrypted_regex": ENCRYPTED_REGEX,
            "lastmodified": modified,
            "mac": code,
            "version": VERSION,
        })
    }

    fn value(&self, plain: &str, place: &str, kind: &str) -> Result<String, SopsError> {
        let mut sealed = plain.as_bytes().to_vec();
        let seal = self
            .key
            .seal_in_place_separate_tag(Aad::from(place.as_bytes()), &mut sealed);
        let (nonce, tag) = seal.map_err(|_| SopsError::Encrypt)?;
        Ok(format!(
            "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{kind}]",
            BASE64.encode(sealed),
            BASE64.encode(nonce.as_ref()),
            BASE64.encode(tag.as_ref()),
        ))
    }
}

struct Walk<'a> {
    sealer: &'a Sealer,
    path: Vec<String>,
    /// Over all values, encrypted or not, in the order of the document.
    all: digest::Context,
}

impl Walk<'_> {
    fn below(&mut self, name: &str, value: &mut Value) -> Result<(), SopsError> {
        self.path.push(name.to_owned());
        let walked = self.value(value);
        self.path.pop();
        walked
    }

    fn value(&mut self, value: &mut Value) -> Result<(), SopsError> {
        let (text, kind) = match value {
            Value::Object(fields) => return self.fields(fields),
            // Elements have their list's place.
            Value::Array(list) => return list.iter_mut().try_for_each(|value| self.value(value)),
            Value::Null => return Ok(()),
            Value::Bool(true) => ("True".to_owned(), "bool"),
            Value::Bool(false) => ("False".to_owned(), "bool"),
            Value::Number(number) if number.is_f64() => {
                // Without an exponent.
                (number.as_f64().unwrap_or_default().to_string(), "float")
            }
            Value::Number(number) => (number.to_string(), "int"),
            Value::String(text) => (std::mem::take(text), "str"),
        };
        self.all.update(text.as_bytes());
        let is_encrypted = self
            .path
            .iter()
            .any(|name| ENCRYPTED.contains(&name.as_str()));
        if is_encrypted && !text.is_empty() {
            let place = format!("{}:", self.path.join(":"));
            *value = self.sealer.value(&text, &place, kind)?.into();
        } else if kind == "str" {
            *value = text.into();
        }
        Ok(())
    }

    fn fields(&mut self, fields: &mut Map<String, Value>) -> Result<(), SopsError> {
        let mut names: Vec<String> = fields.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            if let Some(value) = fields.get_mut(&name) {
                self.below(&name, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_readable_and_values_do_not() {
        let sealer = Sealer::new(
            &Secret::new([7; 32]),
            vec![("age1x".into(), "sealed".into())],
        );
        let document = "apiVersion: v1\nkind: Secret\nmetadata:\n  annotations:\n    \
                        kubectl.kubernetes.io/last-applied-configuration: hunter2\n  name: s\n\
                        data:\n  empty: \"\"\n  password: aHVudGVyMg==\ntype: Opaque\n";
        let sealed = sealer
            .unwrap()
            .seal(document.as_bytes(), "2026-11-02T10:00:00Z")
            .unwrap();
        let sealed = String::from_utf8(sealed).unwrap();
        assert!(!sealed.contains("hunter2") && !sealed.contains("aHVudGVyMg"));
        let read = yaml::read(sealed.as_bytes()).unwrap();
        assert_eq!(read["metadata"]["name"], "s");
        assert_eq!(read["type"], "Opaque");
        assert_eq!(read["data"]["empty"], "");
        let password = read["data"]["password"].as_str().unwrap();
        assert!(password.starts_with("ENC[AES256_GCM,data:"), "{password}");
        assert_eq!(read["sops"]["age"][0]["recipient"], "age1x");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let sealer = Sealer::new(&Secret::new([7; 32]), Vec::new()).unwrap();
        for document in ["- 1\n", "sops: {}\n", "a: [\n"] {
            let refused = sealer.seal(document.as_bytes(), "2026-11-02T10:00:00Z");
            assert!(refused.is_err(), "{document}");
        }
        assert!(matches!(
            Sealer::new(&Secret::new([7; 31]), Vec::new()),
            Err(SopsError::Key)
        ));
    }
}
