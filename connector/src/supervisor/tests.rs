//! The supervisor's promises: one property each over random worlds ([`properties`]), and the cases
//! that tell what each promise means ([`examples`]). All of it in virtual time ([`world`]).

mod examples;
mod properties;
mod world;
