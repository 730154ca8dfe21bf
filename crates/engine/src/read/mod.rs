//! Reading: what recorded tokens at recorded depths were worth, teacher-forced, and that decoding says the same.

pub mod reading;
pub mod replay;
pub mod verify;
