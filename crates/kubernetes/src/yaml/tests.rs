use super::*;
use proptest::prelude::*;
use serde_json::json;

fn check(value: &Value, expected: &str) {
    let text = write(value);
    assert_eq!(text, expected);
    assert_eq!(&read(text.as_bytes()).unwrap(), value);
}

#[test]
fn objects_read_like_those_of_kubectl() {
    check(
        &json!({
            "spec": {"ports": [{"port": 80, "name": "http"}], "args": ["a", ["b", []]], "none": {}},
            "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
            "kind": "Service",
            "data": {"motd": "first\n\n  second: line\nthird\n", "cut": "a\nb", "one": "a\n"},
            "apiVersion": "v1",
        }),
        "apiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    app.kubernetes.io/name: web\n  \
         name: web\ndata:\n  cut: |-\n    a\n    b\n  motd: |\n    first\n\n      second: line\n    \
         third\n  one: \"a\\n\"\nspec:\n  args:\n  - a\n  - - b\n    - []\n  none: {}\n  ports:\n  \
         - name: http\n    port: 80\n",
    );
}

#[test]
fn text_that_looks_like_something_else_stays_text() {
    for string in [
        "",
        " ",
        "no",
        "Yes",
        "ON",
        "y",
        "null",
        "~",
        "1",
        "1e3",
        "0x1F",
        "0o17",
        "017",
        "12:30:45",
        "1_000",
        ".5",
        ".inf",
        "NaN",
        "Infinity",
        "2001-01-01",
        "- a",
        "? a",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'a'",
        "\"a\"",
        "[a]",
        "{a}",
        "---",
        "...",
        "<<",
        "=",
        "a\tb",
        "a\r\nb",
        "a\u{85}b",
        "a\u{2028}b",
        "\u{feff}a",
        "😀",
        "a\u{7f}",
        "\n",
        "a\n\n",
        "\na",
        " a\nb",
        "a\n \nb",
        "a\n\tb",
        "a \nb \n",
        "nginx:1.25",
        "a b",
        "+1",
    ] {
        let value = json!({"key": string, "list": [string], string: 1});
        let text = write(&value);
        assert_eq!(read(text.as_bytes()).unwrap(), value, "{text}");
    }
}

#[test]
fn numbers_come_back_exactly() {
    for number in [
        "0",
        "-1",
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "1.0",
        "1e+21",
        "1e-7",
        "2.2250738585072014e-308",
        "123456789.12345679",
        "1.7976931348623157e308",
    ] {
        let value: Value = serde_json::from_str(&format!("{{\"n\": {number}}}")).unwrap();
        let text = write(&value);
        assert_eq!(read(text.as_bytes()).unwrap(), value, "{text}");
    }
}

#[test]
fn errors_name_the_place_and_quote_nothing() {
    let error = read(b"a: 1\nb: [hunter2\n").unwrap_err();
    assert!(matches!(error, YamlError::Syntax { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[test]
fn keys_too_long_for_yaml_are_kept() {
    let value = json!({"k".repeat(3_000): "v"});
    assert_eq!(read(write(&value).as_bytes()).unwrap(), value);
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,8}",
        "(?s).{0,10}",
        "([a-z \t:#-]{0,6}\n){0,4}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(value in any_value()) {
        let value = json!({"spec": value});
        let text = write(&value);
        let back = read(text.as_bytes());
        prop_assert!(back.is_ok(), "{text}");
        prop_assert_eq!(back.unwrap(), value, "{}", text);
    }
}
