//! What the parts cost: rules, paths, tokens, redaction, and the layers of the stack.
fn main() {}
