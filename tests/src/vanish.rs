//! Exchanges of every shape, one of whose ends vanishes at a random point, or neither: what must leave
//! nothing behind.

use std::time::Duration;

use rand::{Rng, RngExt as _};

pub mod client;
pub mod origin;

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A small answer.
    Get,
    /// A small request body and a small answer.
    Post,
    /// A large request body.
    Upload,
    /// A large answer.
    Download,
    /// A tunnel whose ends echo.
    Connect,
    /// A connection that becomes another protocol, and echoes.
    Upgrade,
    /// Events, one by one.
    Events,
}

/// All of them.
pub const SHAPES: [Shape; 7] = [
    Shape::Get,
    Shape::Post,
    Shape::Upload,
    Shape::Download,
    Shape::Connect,
    Shape::Upgrade,
    Shape::Events,
];

/// How somebody vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The socket is closed: a FIN, or a reset if something was unread.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more is read or written; whoever waits must give up. A client leaves later nevertheless.
    Stall,
}

/// A vanishing: after so long, in such a way.
pub type End = (Duration, Way);

/// One exchange, as it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What is exchanged.
    pub shape: Shape,
    /// Bytes of a large body.
    pub length: u64,
    /// How the client vanishes, if it does before the end.
    pub client: Option<End>,
    /// How the origin does.
    pub origin: Option<End>,
}

/// Most bytes of a body: more than all windows and buffers on the way hold.
const LARGEST: u64 = 8_000_000;
/// Somebody who vanishes does so within this time.
const SOON: Duration = Duration::from_millis(250);

impl Plan {
    /// A random one.
    pub fn random(random: &mut impl Rng) -> Self {
        let shape = SHAPES[random.random_range(0..SHAPES.len())];
        let length = random.random_range(1..=LARGEST);
        let mut end = |ways: &[Way]| {
            let after = random.random_range(Duration::ZERO..SOON);
            Some((after, ways[random.random_range(0..ways.len())]))
        };
        let (client, origin) = match end(&[Way::Close, Way::Reset, Way::Stall]) {
            // A third each: nobody vanishes, the client does, the origin does.
            Some((_, Way::Close)) => (None, None),
            Some((_, Way::Reset)) => (end(&[Way::Close, Way::Reset]), None),
            // Whoever stalls is left by the other end.
            Some((_, Way::Stall)) | None => {
                let origin = end(&[Way::Close, Way::Reset, Way::Stall]);
                let stalls = origin.is_some_and(|(_, way)| way == Way::Stall);
                (if stalls { end(&[Way::Close, Way::Reset]) } else { None }, origin)
            }
        };
        Self { shape, length, client, origin }
    }
}
