use proptest::prelude::*;

use super::{Node, ascii};

fn canonical(text: &str) -> String {
    Node::read(text).expect("JSON").text()
}

#[test]
fn it_is_what_python_writes() {
    // json.dumps(json.loads(text), separators=(",", ":"))
    for (text, expected) in [
        (" [ 1 , -0, 1E400000 ]", None),
        (r#"{"b" : [true,null, {} ,[]], "a":-0}"#, Some(r#"{"b":[true,null,{},[]],"a":0}"#)),
        ("1000000000000000000000000000000", Some("1000000000000000000000000000000")),
        ("[1e15,1e16,1.5e-5,0.0001,-0.0]", Some("[1000000000000000.0,1e+16,1.5e-05,0.0001,-0.0]")),
        ("[123456789012345678.0,5e-324]", Some("[1.2345678901234568e+17,5e-324]")),
        (
            r#""\u00E9\/\u0041\u000a\u007f\ud83D\ude00\udcff""#,
            Some(r#""\u00e9/A\n\u007f\ud83d\ude00\udcff""#),
        ),
        ("\"é\u{7f}🦀\u{2028}\"", Some(r#""\u00e9\u007f\ud83e\udd80\u2028""#)),
    ] {
        match expected {
            Some(expected) => assert_eq!(canonical(text), expected),
            None => assert!(Node::read(text).is_err(), "{text}"),
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for text in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"\u0061":2}}]"#, "{", "", "1 2", "NaN"] {
        assert!(Node::read(text).is_err(), "{text}");
    }
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Node::read(&deep(128)).is_ok());
    assert!(Node::read(&deep(129)).is_err());
    assert!(Node::read(&deep(1_000_000)).is_err());
}

#[test]
fn the_order_of_keys_does_not_matter_and_all_else_does() {
    let equal = |one, two| Node::read(one).unwrap() == Node::read(two).unwrap();
    assert!(equal(r#"{"a":1,"b":[2]}"#, r#"{ "b":[2], "\u0061":1}"#));
    for other in [r#"{"a":1}"#, r#"{"a":1,"b":[3]}"#, r#"{"a":1,"c":[2]}"#, r#"{"a":1.0,"b":[2]}"#]
    {
        assert!(!equal(r#"{"a":1,"b":[2]}"#, other), "{other}");
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::hash_map(".{0,6}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_form_it_has_it_is_the_same_text(value in json()) {
        let compact = serde_json::to_string(&value).unwrap();
        let text = canonical(&compact);
        prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        prop_assert_eq!(&ascii(&compact), &text);
        prop_assert_eq!(&canonical(&serde_json::to_string_pretty(&value).unwrap()), &text);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_float_keeps_its_value(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let text = super::float(number);
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
    }
}

#[test]
fn a_text_has_only_so_many_values() {
    for (text, values) in [("0", 1), ("[0,[],{}]", 4), (r#"{"a":[0,0],"b":0}"#, 5)] {
        Node::read_within(text, values).expect("as many as there are");
        let refused = Node::read_within(text, values - 1).expect_err("one less");
        assert!(refused.contains("more than"), "{refused}");
    }
}
