//! The appliance that sits in a private network and keeps four links dialled out.
//!
//! [`supervisor`] decides which links there are to be.

pub mod supervisor;
