//! Admission: subscriptions, slots, answers, leaving. The table decides, the rest of this folder is its I/O.

mod health;
mod offers;
pub mod table;
