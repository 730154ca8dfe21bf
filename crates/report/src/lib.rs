//! Figures, pages, the token viewer, tables for the terminal, and exports. Shows what was measured; knows nothing of how a
//! number came about.

mod document;
pub mod inspect;
pub mod page;
mod palette;
pub mod plot;
pub mod record_table;
pub mod summary;
pub mod table;
pub mod terminal;
mod text;
pub mod view;
mod words;
