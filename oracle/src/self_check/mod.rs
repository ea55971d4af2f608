//! Whether the oracle would notice: defects are planted in lvx, one at a time,
//! and random scenarios have to find each.
//!
//! A defect is an edit of lvx's sources, made in a copy of them: there is no
//! code of a defect in lvx itself.
//!
//! | module | holds |
//! | --- | --- |
//! | [`defects`] | the list of defects, and how one is planted |
//! | [`workshop`] | the copy of the sources, and lvx built from it |
//! | [`scenarios`] | the random scenarios, and who finds what |
//! | [`outcome`] | what became of each defect, as text |

pub mod defects;
pub mod outcome;
pub mod scenarios;
pub mod workshop;
