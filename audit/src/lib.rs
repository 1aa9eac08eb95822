//! What happened: records of exchanges, and the channel that loses none.
