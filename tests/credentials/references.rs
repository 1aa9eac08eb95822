//! Whatever is written in the place of a credential reference.

use nono_credentials::{Locator, Options};
use proptest::prelude::*;

proptest! {
    /// Nothing panics, and what is shown of a reference leads to the same place.
    #[test]
    fn a_reference_is_refused_or_shown_so_that_it_can_be_read_again(
        scheme in "(keyring|env|file|op|bw|cmd|vault|x)?(://)?",
        rest in "[ -~]{0,40}|\\PC{0,20}",
    ) {
        let command = ["x".to_owned()];
        let text = format!("{scheme}{rest}");
        let is_command = text.starts_with("cmd://");
        let options = Options { command: if is_command { &command } else { &[] }, vault: None };
        if let Ok(locator) = Locator::parse_with(&text, options) {
            let again = Locator::parse_with(&locator.to_string(), options).unwrap();
            prop_assert_eq!(locator, again);
        }
    }

    /// No mistake quotes a key that stands where its place should be named.
    #[test]
    fn a_key_in_the_place_of_a_reference_is_never_quoted(rest in "[A-Za-z0-9_-]{16,40}") {
        for beginning in ["sk-", "ghp_", "hf_", "AKIA", "Bearer "] {
            let error = Locator::parse(&format!("{beginning}{rest}")).unwrap_err();
            prop_assert!(!error.to_string().contains(&rest));
        }
    }
}
