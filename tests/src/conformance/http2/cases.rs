//! The cases: frames that a client sends, and what RFC 9113 (and RFC 8441 for extended CONNECT) has the
//! server do.

use super::frames::{
    CONTINUATION, DATA, END, END_HEADERS, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITIZED,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, settings,
};

use crate::{bench::postern::CARRIERS, conformance::corpus::Known};

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

/// A case.
pub struct Case {
    /// Where the standard says so: `6.9.1`, with `8441` before it for that RFC.
    pub section: &'static str,
    /// What the client does.
    pub name: &'static str,
    /// What happens, in order.
    pub moves: Vec<Move>,
    /// Does the client begin with a preface and SETTINGS of its own accord?
    pub is_greeted: bool,
    /// What the origin does.
    pub origin: Served,
    /// Differences that are known.
    pub known: Vec<Known>,
}

/// What an origin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It answers 200 with the body `ok`.
    Ok,
    /// The same with 200,000 bytes.
    Large,
    /// It sends back what comes, and knows no HTTP.
    Echo,
    /// It switches to a WebSocket, and sends back what comes.
    WebSocket,
}

/// All of them.
pub const SERVED: [Served; 4] = [Served::Ok, Served::Large, Served::Echo, Served::WebSocket];

impl Served {
    /// What it does, as a script.
    pub fn script(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok",
            Self::Large => "HTTP/1.1 200 OK¶Content-Length: 200000¶¶{200000*x}",
            Self::Echo => "{echo}",
            Self::WebSocket => {
                "HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: websocket¶¶{echo}"
            }
        }
    }
}

/// A thing that happens.
pub enum Move {
    /// The client sends bytes.
    Send(Vec<u8>),
    /// The server must do this, whatever else it does before.
    Await(Expect),
}

/// What a server must do.
#[derive(Debug, Clone)]
pub enum Expect {
    /// Send its settings; with this one among them.
    Settings(Option<(u16, u32)>),
    /// Acknowledge the client's.
    SettingsAck,
    /// Send a ping back.
    Pong([u8; 8]),
    /// Answer with one of these.
    Status(u32, &'static [u16]),
    /// Send so many bytes of a body, and no more than that before the client says more.
    Data(u32, usize),
    /// Send these bytes.
    Echo(u32, &'static [u8]),
    /// End the answer.
    End(u32),
    /// End the connection, with one of these codes if it says any.
    Connection(&'static [u32]),
    /// End the stream, or the connection, with one of these codes.
    Stream(u32, &'static [u32]),
    /// Refuse the request: by a stream's or the connection's error, or with 400; the origin does not see it.
    Malformed(u32),
    /// Either of them.
    Either(&'static [Self]),
}

use Expect::{
    Connection, Data, Echo, Either, End, Malformed, Pong, Settings, SettingsAck, Status, Stream,
};
use Move::{Await, Send};

/// What a request is made of.
pub struct Request<'a> {
    /// The origin.
    pub authority: &'a str,
    /// `Proxy-Authorization`, for a proxy.
    pub credentials: Option<&'a str>,
    /// A path that no other case has.
    pub path: &'a str,
}

impl Request<'_> {
    /// The fields of a request that is well made.
    fn fields(&self, method: &str) -> Vec<(String, String)> {
        let mut fields = vec![
            (":method".to_owned(), method.to_owned()),
            (":scheme".to_owned(), "http".to_owned()),
            (":authority".to_owned(), self.authority.to_owned()),
            (":path".to_owned(), self.path.to_owned()),
        ];
        if let Some(credentials) = self.credentials {
            fields.push(("proxy-authorization".to_owned(), credentials.to_owned()));
        }
        fields
    }

    /// The same with others behind them.
    fn with(&self, method: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut fields = self.fields(method);
        fields.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        fields
    }

    /// The same with other pseudo-fields: without those that have no value.
    fn but(&self, method: &str, pseudo: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
        let mut fields = self.fields(method);
        for (name, value) in pseudo {
            match value {
                None => fields.retain(|(other, _)| other != name),
                Some(value) => match fields.iter_mut().find(|(other, _)| other == name) {
                    Some((_, old)) => *old = value.to_string(),
                    None => fields.insert(0, (name.to_string(), value.to_string())),
                },
            }
        }
        fields
    }

    fn get(&self, stream: u32) -> Vec<u8> {
        head(stream, END, &self.fields("GET"))
    }

    /// A POST whose body is still to come.
    fn post(&self, stream: u32) -> Vec<u8> {
        head(stream, 0, &self.fields("POST"))
    }
}

/// HEADERS with a whole block.
fn head(stream: u32, flags: u8, fields: &[(String, String)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"conforms")
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

const PONG: Expect = Pong(*b"conforms");
const OK: Expect = Status(1, &[200]);
const PROTOCOL_ERROR: Expect = Connection(&[PROTOCOL]);
const SIZE_ERROR: Expect = Connection(&[SIZE]);

/// All of them.
pub fn all(r: &Request<'_>) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |section, name, moves| {
        all.push(Case {
            section,
            name,
            moves,
            is_greeted: true,
            origin: Served::Ok,
            known: Vec::new(),
        });
    };
    connection(r, &mut add);
    states(r, &mut add);
    frames(r, &mut add);
    messages(r, &mut add);
    all.extend(ungreeted(r));
    all.extend(flow(r));
    all.extend(tunnels(r));
    for case in &mut all {
        let known = KNOWN.iter().filter(|(names, _)| names.contains(&case.name));
        case.known = known
            .map(|(_, why)| Known {
                ways: CARRIERS.map(|carrier| carrier.as_str().to_owned()).to_vec(),
                why: why.to_string(),
                at_times: false,
            })
            .collect();
    }
    all
}

/// Where the gateway differs, over either carrier, and why that is accepted.
const KNOWN: [(&[&str], &str); 5] = [
    (
        &[
            "an index that is in no table",
            "the index 0",
            "a block that breaks off",
            "Huffman's code with a padding of zeros",
            "Huffman's code with the end of string",
            "a table that is larger than allowed",
            "an update of the table behind a field",
            "an integer without an end",
            "DATA behind the end of a stream",
            "PRIORITY of a wrong length",
            "RST_STREAM of a wrong length",
            "SETTINGS of an acknowledgement with a payload",
            "SETTINGS of a wrong length",
            "INITIAL_WINDOW_SIZE above the maximum",
            "PING of a wrong length",
            "WINDOW_UPDATE of a wrong length",
        ],
        "The connection ends, as it must; h2, the library, says PROTOCOL_ERROR where a code of its own is asked for",
    ),
    (
        &["trailers with a pseudo-field"],
        "h2, the library, drops pseudo-fields of trailers instead of refusing them; none reaches the origin",
    ),
    (
        &["a value that begins with a space", "a value that ends with a space"],
        "h2, the library, takes them, as HAProxy does; HTTP/1.1 has no such spaces, so the origin sees none",
    ),
    (
        &["an error of one stream spares the others"],
        "h2, the library, ends the whole connection for a malformed request; it carries that client's streams alone",
    ),
    (
        &["no settings behind the preface"],
        "h2, the library, waits for them and serves meanwhile; a client that sends none harms nobody",
    ),
];

type Add<'a> = dyn FnMut(&'static str, &'static str, Vec<Move>) + 'a;

/// Frames as such, and the compression of fields.
fn connection(r: &Request<'_>, add: &mut Add<'_>) {
    let odd = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        Send(frame(kind, flags, stream, payload))
    };
    add(
        "4.1",
        "a frame of an unknown type is ignored",
        vec![odd(0xbb, 0xff, 0, b"what"), Send(ping()), Await(PONG)],
    );
    add(
        "4.1",
        "an unknown frame on a stream is ignored",
        vec![Send(r.post(1)), odd(0xbb, 0, 1, b"what"), Send(data(1, END, b"x")), Await(OK)],
    );
    add(
        "4.1",
        "flags that mean nothing are ignored",
        vec![odd(PING, 0xfe, 0, b"conforms"), Await(PONG)],
    );
    add(
        "4.1",
        "the reserved bit is ignored",
        vec![odd(PING, 0, 0x8000_0000, b"conforms"), Await(PONG)],
    );
    add(
        "4.2",
        "DATA as long as allowed passes",
        vec![Send(r.post(1)), Send(data(1, END, &[b'x'; 16384])), Await(OK)],
    );
    add(
        "4.2",
        "DATA that is too long",
        vec![Send(r.post(1)), Send(data(1, END, &[b'x'; 16385])), Await(Stream(1, &[SIZE]))],
    );
    add(
        "4.2",
        "HEADERS that are too long",
        vec![odd(HEADERS, END | END_HEADERS, 1, &[0; 16385]), Await(SIZE_ERROR)],
    );
    let broken = |bytes: &[u8]| {
        vec![odd(HEADERS, END | END_HEADERS, 1, bytes), Await(Connection(&[COMPRESSION]))]
    };
    add("4.3", "an index that is in no table", broken(&[0xbe]));
    add("4.3", "the index 0", broken(&[0x80]));
    add("4.3", "a block that breaks off", broken(&[0x00, 5, b'a']));
    add("4.3", "Huffman's code with a padding of zeros", broken(&[0x00, 1, b'a', 0x81, 0x00]));
    add(
        "4.3",
        "Huffman's code with the end of string",
        broken(&[0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
    );
    add("4.3", "a table that is larger than allowed", broken(&[0x3f, 0xff, 0xff, 0x7f]));
    add("4.3", "an update of the table behind a field", {
        let block = [block(&r.fields("GET")), vec![0x20]].concat();
        vec![odd(HEADERS, END | END_HEADERS, 1, &block), Await(Connection(&[COMPRESSION]))]
    });
    add(
        "4.3",
        "an integer without an end",
        broken(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    );
    add(
        "5.5",
        "an unknown frame inside a block of fields",
        vec![
            odd(HEADERS, END, 1, &block(&r.fields("GET"))),
            odd(0xbb, 0, 1, b""),
            Await(PROTOCOL_ERROR),
        ],
    );
}

/// Streams and their states.
fn states(r: &Request<'_>, add: &mut Add<'_>) {
    let number = [0, 0, 0, 8];
    for (name, bytes) in [
        ("DATA on an idle stream", data(1, END, b"x")),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &number)),
        ("WINDOW_UPDATE on an idle stream", window(1, 1)),
        ("CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1, b"")),
    ] {
        add("5.1", name, vec![Send(bytes), Await(PROTOCOL_ERROR)]);
    }
    add(
        "5.1",
        "PRIORITY on an idle stream is ignored",
        vec![Send(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])), Send(ping()), Await(PONG)],
    );
    add(
        "5.1",
        "DATA behind the end of a stream",
        vec![Send(r.get(1)), Send(data(1, END, b"x")), Await(Stream(1, &[CLOSED]))],
    );
    add(
        "5.1",
        "HEADERS behind the end of a stream",
        vec![Send(r.get(1)), Send(r.get(1)), Await(Stream(1, &[CLOSED, PROTOCOL]))],
    );
    add(
        "5.1",
        "CONTINUATION behind the end of a stream",
        vec![
            Send(r.get(1)),
            Send(frame(CONTINUATION, END_HEADERS, 1, &block(&r.fields("GET")))),
            Await(Stream(1, &[CLOSED, PROTOCOL])),
        ],
    );
    add(
        "5.1",
        "WINDOW_UPDATE behind an answer is ignored",
        vec![Send(r.get(1)), Await(End(1)), Send(window(1, 1)), Send(ping()), Await(PONG)],
    );
    add(
        "5.1",
        "RST_STREAM behind an answer is ignored",
        vec![
            Send(r.get(1)),
            Await(End(1)),
            Send(frame(RST_STREAM, 0, 1, &number)),
            Send(ping()),
            Await(PONG),
        ],
    );
    add(
        "5.1",
        "DATA behind a reset is no harm to the connection",
        vec![
            Send(r.post(1)),
            Send(frame(RST_STREAM, 0, 1, &number)),
            Send(data(1, END, b"x")),
            Send(ping()),
            Await(Either(&[PONG, Stream(1, &[CLOSED])])),
        ],
    );
    add(
        "5.1",
        "HEADERS behind a reset",
        vec![
            Send(r.post(1)),
            Send(frame(RST_STREAM, 0, 1, &number)),
            Send(r.get(1)),
            Await(Stream(1, &[CLOSED, PROTOCOL])),
        ],
    );
    add("5.1.1", "a stream with an even number", vec![Send(r.get(2)), Await(PROTOCOL_ERROR)]);
    add(
        "5.1.1",
        "a stream with a number that is lower than the last",
        vec![Send(r.get(5)), Send(r.get(3)), Await(Connection(&[PROTOCOL, CLOSED]))],
    );
    add("5.1.2", "more streams than are allowed", {
        let streams = (0..140).flat_map(|n| r.post(2 * n + 1)).collect();
        vec![Send(streams), Await(Stream(279, &[REFUSED, PROTOCOL]))]
    });
    add(
        "5.4.2",
        "an error of one stream spares the others",
        vec![
            Send(r.post(1)),
            Send(head(3, END, &r.with("GET", &[("Upper", "x")]))),
            Await(Malformed(3)),
            Send(data(1, END, b"x")),
            Await(OK),
        ],
    );
    add(
        "5.4.2",
        "a stream that is reset spares the others",
        vec![
            Send(r.post(1)),
            Send(r.post(3)),
            Send(frame(RST_STREAM, 0, 3, &number)),
            Send(data(1, END, b"x")),
            Await(OK),
        ],
    );
}

/// Each type of frame.
fn frames(r: &Request<'_>, add: &mut Add<'_>) {
    let whole = block(&r.fields("GET"));
    let fails = |bytes: Vec<u8>, expected: Expect| vec![Send(bytes), Await(expected)];
    let posted =
        |bytes: Vec<u8>, expected: Expect| vec![Send(r.post(1)), Send(bytes), Await(expected)];
    add("6.1", "DATA on stream 0", fails(data(0, 0, b"x"), PROTOCOL_ERROR));
    add("6.1", "DATA with more padding than payload", {
        posted(frame(DATA, END | PADDED, 1, &[9, b'x']), PROTOCOL_ERROR)
    });
    add("6.1", "DATA with padding passes", {
        posted(frame(DATA, END | PADDED, 1, &[2, b'x', 0, 0]), OK)
    });
    add("6.1", "DATA that is empty passes", {
        posted([data(1, 0, b""), data(1, 0, b"x"), data(1, END, b"")].concat(), OK)
    });
    add("6.2", "HEADERS on stream 0", {
        fails(frame(HEADERS, END | END_HEADERS, 0, &whole), PROTOCOL_ERROR)
    });
    add("6.2", "HEADERS with more padding than payload", {
        let padded = [vec![255], block(&r.fields("GET"))[..20].to_vec()].concat();
        fails(frame(HEADERS, END | END_HEADERS | PADDED, 1, &padded), PROTOCOL_ERROR)
    });
    add("6.2", "HEADERS with padding and a priority pass", {
        let padded = [vec![3, 0, 0, 0, 0, 16], whole.clone(), vec![0; 3]].concat();
        fails(frame(HEADERS, END | END_HEADERS | PADDED | PRIORITIZED, 1, &padded), OK)
    });
    for (name, bytes) in [
        ("DATA inside a block of fields", data(1, END, b"x")),
        ("PRIORITY inside a block of fields", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("HEADERS inside a block of fields", r.get(3)),
        ("PING inside a block of fields", ping()),
        ("CONTINUATION of another stream inside a block of fields", {
            frame(CONTINUATION, END_HEADERS, 3, &whole)
        }),
    ] {
        let begun = frame(HEADERS, END, 1, &whole);
        add("6.2", name, vec![Send(begun), Send(bytes), Await(PROTOCOL_ERROR)]);
    }
    add("6.3", "PRIORITY on stream 0", {
        fails(frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1]), PROTOCOL_ERROR)
    });
    add("6.3", "PRIORITY of a wrong length", {
        posted(frame(PRIORITY, 0, 1, &[0, 0, 0, 0]), Stream(1, &[SIZE]))
    });
    add("6.4", "RST_STREAM on stream 0", {
        fails(frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]), PROTOCOL_ERROR)
    });
    add(
        "6.4",
        "RST_STREAM of a wrong length",
        posted(frame(RST_STREAM, 0, 1, &[0; 3]), SIZE_ERROR),
    );
    add("6.5", "SETTINGS are acknowledged", fails(settings(&[(4, 70_000)]), SettingsAck));
    add("6.5", "SETTINGS of an acknowledgement with a payload", {
        fails(frame(SETTINGS, END, 0, &[0, 4, 0, 0, 0, 1]), SIZE_ERROR)
    });
    add("6.5", "SETTINGS on a stream", {
        fails(frame(SETTINGS, 0, 1, &[0, 4, 0, 0, 0, 1]), PROTOCOL_ERROR)
    });
    add("6.5", "SETTINGS of a wrong length", fails(frame(SETTINGS, 0, 0, &[0, 4, 0]), SIZE_ERROR));
    add("6.5.2", "ENABLE_PUSH that is no boolean", fails(settings(&[(2, 2)]), PROTOCOL_ERROR));
    add("6.5.2", "INITIAL_WINDOW_SIZE above the maximum", {
        fails(settings(&[(4, 0x8000_0000)]), Connection(&[FLOW]))
    });
    add(
        "6.5.2",
        "MAX_FRAME_SIZE below the minimum",
        fails(settings(&[(5, 16_383)]), PROTOCOL_ERROR),
    );
    add("6.5.2", "MAX_FRAME_SIZE above the maximum", {
        fails(settings(&[(5, 0x0100_0000)]), PROTOCOL_ERROR)
    });
    add("6.5.2", "a setting that is unknown is ignored", {
        fails([settings(&[(0xff, 1)]), ping()].concat(), PONG)
    });
    add("6.6", "PUSH_PROMISE from a client", {
        let promise = [&[0, 0, 0, 3][..], &whole].concat();
        posted(frame(PUSH_PROMISE, END_HEADERS, 1, &promise), PROTOCOL_ERROR)
    });
    add("6.7", "PING comes back", fails(ping(), PONG));
    add("6.7", "PING that is an answer gets none", {
        let unasked = frame(PING, END, 0, b"nobodyis");
        fails([unasked, ping()].concat(), PONG)
    });
    add("6.7", "PING on a stream", fails(frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR));
    add("6.7", "PING of a wrong length", fails(frame(PING, 0, 0, &[0; 6]), SIZE_ERROR));
    add("6.8", "GOAWAY on a stream", fails(frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_ERROR));
    add(
        "6.8",
        "GOAWAY lets what is under way finish",
        vec![Send(r.get(1)), Send(frame(GOAWAY, 0, 0, &[0; 8])), Await(End(1))],
    );
    add("6.9", "WINDOW_UPDATE of nothing", fails(window(0, 0), PROTOCOL_ERROR));
    add(
        "6.9",
        "WINDOW_UPDATE of nothing on a stream",
        posted(window(1, 0), Stream(1, &[PROTOCOL])),
    );
    add("6.9", "WINDOW_UPDATE of a wrong length", {
        fails(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]), SIZE_ERROR)
    });
    add("6.9.1", "a connection's window above the maximum", {
        fails([window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(), Connection(&[FLOW]))
    });
    add("6.9.1", "a stream's window above the maximum", {
        posted([window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)].concat(), Stream(1, &[FLOW]))
    });
    let parts = |ends: bool| {
        let (a, b) = whole.split_at(10);
        let (b, c) = b.split_at(5);
        let last = if ends { END_HEADERS } else { 0 };
        [frame(HEADERS, END, 1, a), frame(CONTINUATION, 0, 1, b), frame(CONTINUATION, last, 1, c)]
            .concat()
    };
    add("6.10", "a block of fields in three frames passes", fails(parts(true), OK));
    add("6.10", "CONTINUATION behind a whole block", {
        posted(frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR)
    });
    add("6.10", "CONTINUATION on stream 0", {
        let begun = frame(HEADERS, END, 1, &whole);
        fails([begun, frame(CONTINUATION, END_HEADERS, 0, b"")].concat(), PROTOCOL_ERROR)
    });
    add("6.10", "CONTINUATION behind DATA", {
        let more = frame(CONTINUATION, END_HEADERS, 1, b"");
        posted([data(1, 0, b"x"), more].concat(), PROTOCOL_ERROR)
    });
    add("10.5.1", "a block of fields without an end", {
        let more = frame(CONTINUATION, 0, 1, &block(&[("x".into(), "y".repeat(4000))]));
        let flood = [frame(HEADERS, END, 1, &whole), more.repeat(1000)].concat();
        fails(flood, Either(&[Connection(&[CALM, PROTOCOL, COMPRESSION, 2]), Status(1, &[431])]))
    });
}

/// Requests and their fields.
fn messages(r: &Request<'_>, add: &mut Add<'_>) {
    let malformed =
        |fields: Vec<(String, String)>| vec![Send(head(1, END, &fields)), Await(Malformed(1))];
    let passes = |fields: Vec<(String, String)>| vec![Send(head(1, END, &fields)), Await(OK)];
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    add("8.1", "a GET is answered", vec![Send(r.get(1)), Await(OK), Await(Echo(1, b"ok"))]);
    add("8.1", "a HEAD is answered without a body", {
        vec![Send(head(1, END, &r.fields("HEAD"))), Await(End(1))]
    });
    add(
        "8.1",
        "a POST with trailers",
        vec![
            Send(r.post(1)),
            Send(data(1, 0, b"x")),
            Send(head(1, END, &[pair("x-t", "1")])),
            Await(OK),
        ],
    );
    add(
        "8.1",
        "trailers that do not end the stream",
        vec![
            Send(r.post(1)),
            Send(data(1, 0, b"x")),
            Send(head(1, 0, &[pair("x-t", "1")])),
            Await(Malformed(1)),
        ],
    );
    add(
        "8.1",
        "trailers with a pseudo-field",
        vec![
            Send(r.post(1)),
            Send(data(1, 0, b"x")),
            Send(head(1, END, &[pair(":method", "GET")])),
            Await(Malformed(1)),
        ],
    );
    for (name, length, pieces) in [
        ("content-length below the body", "1", &[&b"xx"[..]][..]),
        ("content-length above the body", "9", &[&b"xx"[..]][..]),
        ("content-length below two pieces of a body", "3", &[&b"xx"[..], b"yy"][..]),
    ] {
        let mut moves = vec![Send(head(1, 0, &r.with("POST", &[("content-length", length)])))];
        for (n, piece) in pieces.iter().enumerate() {
            let flags = if n + 1 == pieces.len() { END } else { 0 };
            moves.push(Send(data(1, flags, piece)));
        }
        moves.push(Await(Malformed(1)));
        add("8.1.1", name, moves);
    }
    add("8.1.1", "content-length without a body", {
        malformed(r.with("POST", &[("content-length", "5")]))
    });
    add("8.1.1", "content-length that is no number", {
        malformed(r.with("POST", &[("content-length", "x")]))
    });
    add("8.1.1", "content-length twice and different", {
        malformed(r.with("POST", &[("content-length", "0"), ("content-length", "1")]))
    });
    add(
        "8.1.1",
        "content-length that fits passes",
        vec![
            Send(head(1, 0, &r.with("POST", &[("content-length", "2")]))),
            Send(data(1, END, b"xx")),
            Await(OK),
        ],
    );
    add("8.2", "a name in capitals", malformed(r.with("GET", &[("X-Upper", "1")])));
    add("8.2.1", "a name with a space", malformed(r.with("GET", &[("x a", "1")])));
    add("8.2.1", "a name with a colon inside", malformed(r.with("GET", &[("x:a", "1")])));
    add("8.2.1", "an empty name", malformed(r.with("GET", &[("", "1")])));
    add("8.2.1", "a name with a byte above ASCII", malformed(r.with("GET", &[("x\u{e9}", "1")])));
    add("8.2.1", "a value with a line end", malformed(r.with("GET", &[("x", "1\r\ny: 2")])));
    add("8.2.1", "a value with LF", malformed(r.with("GET", &[("x", "1\n2")])));
    add("8.2.1", "a value with CR", malformed(r.with("GET", &[("x", "1\r2")])));
    add("8.2.1", "a value with NUL", malformed(r.with("GET", &[("x", "1\0")])));
    add("8.2.1", "a value that begins with a space", malformed(r.with("GET", &[("x", " 1")])));
    add("8.2.1", "a value that ends with a space", malformed(r.with("GET", &[("x", "1 ")])));
    for (name, field) in [
        ("connection", ("connection", "keep-alive")),
        ("keep-alive", ("keep-alive", "timeout=5")),
        ("proxy-connection", ("proxy-connection", "keep-alive")),
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("upgrade", ("upgrade", "websocket")),
        ("te that is not trailers", ("te", "gzip")),
    ] {
        add("8.2.2", name, malformed(r.with("GET", &[field])));
    }
    add("8.2.2", "te: trailers passes", passes(r.with("GET", &[("te", "trailers")])));
    add("8.2.3", "cookies in crumbs pass", {
        passes(r.with("GET", &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]))
    });
    add("8.2.3", "a hundred and fifty crumbs pass", {
        let crumb = |n: usize| (format!("c{n}"), n);
        let crumbs: Vec<String> = (0..150).map(crumb).map(|(c, n)| format!("{c}={n}")).collect();
        let crumbs: Vec<_> = crumbs.iter().map(|crumb| ("cookie", crumb.as_str())).collect();
        passes(r.with("GET", &crumbs))
    });
    add("8.3", "a pseudo-field that is unknown", malformed(r.but("GET", &[(":test", Some("x"))])));
    add("8.3", "a pseudo-field of answers", malformed(r.but("GET", &[(":status", Some("200"))])));
    add("8.3", "a pseudo-field behind others", {
        let mut fields = r.but("GET", &[(":path", None)]);
        fields.push(pair(":path", r.path));
        fields.insert(0, pair("x-first", "1"));
        malformed(fields)
    });
    for (name, field) in [
        (":method twice", (":method", "GET")),
        (":scheme twice", (":scheme", "http")),
        (":path twice", (":path", "/other")),
        (":authority twice", (":authority", "other.example")),
    ] {
        let mut fields = r.fields("GET");
        fields.insert(0, pair(field.0, field.1));
        add("8.3.1", name, malformed(fields));
    }
    for (name, pseudo) in
        [(":method missing", ":method"), (":scheme missing", ":scheme"), (":path missing", ":path")]
    {
        add("8.3.1", name, malformed(r.but("GET", &[(pseudo, None)])));
    }
    add("8.3.1", ":path empty", malformed(r.but("GET", &[(":path", Some(""))])));
    add("8.3.1", ":path without a slash", malformed(r.but("GET", &[(":path", Some("a"))])));
    add("8.3.1", ":path with a space", malformed(r.but("GET", &[(":path", Some("/a b"))])));
    add("8.3.1", ":path with a line end", malformed(r.but("GET", &[(":path", Some("/\r\nx: y"))])));
    add("8.3.1", ":method with a space", malformed(r.but("GET", &[(":method", Some("GET /x"))])));
    add("8.3.1", ":authority with a user", {
        let authority = format!("user:pw@{}", r.authority);
        malformed(r.but("GET", &[(":authority", Some(authority.as_str()))]))
    });
    add("8.3.1", ":path of OPTIONS may be *", {
        passes(r.but("OPTIONS", &[(":path", Some("*"))]))
    });
}

/// How a connection begins.
fn ungreeted(r: &Request<'_>) -> Vec<Case> {
    let hello = [PREFACE.to_vec(), settings(&[(1, 0)])].concat();
    let case = |section, name, moves| Case {
        section,
        name,
        moves,
        is_greeted: false,
        origin: Served::Ok,
        known: Vec::new(),
    };
    vec![
        case(
            "3.4",
            "a server begins with its settings",
            vec![Send(hello.clone()), Await(Settings(None)), Await(SettingsAck)],
        ),
        case("3.4", "a preface in small pieces passes", {
            let pieces = hello.chunks(7).map(|piece| Send(piece.to_vec()));
            pieces.chain([Send(r.get(1)), Await(OK)]).collect()
        }),
        case("3.4", "a request right behind the preface passes", {
            vec![Send([hello.clone(), r.get(1)].concat()), Await(OK)]
        }),
        case("3.4", "a preface that is none", {
            vec![Send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec()), Await(Connection(&[PROTOCOL]))]
        }),
        case("3.4", "no settings behind the preface", {
            vec![Send([PREFACE.to_vec(), r.get(1)].concat()), Await(Connection(&[PROTOCOL]))]
        }),
        case("6.5.3", "settings are obeyed in order", {
            let twice = settings(&[(1, 0), (4, 100), (4, 1)]);
            vec![Send([PREFACE.to_vec(), twice, r.get(1)].concat()), Await(OK), Await(Data(1, 1))]
        }),
        case("8441 3", "extended CONNECT is announced", {
            vec![Send(hello), Await(Settings(Some((8, 1))))]
        }),
    ]
}

/// Answers that wait for the client.
fn flow(r: &Request<'_>) -> Vec<Case> {
    let case = |section, name, moves| Case {
        section,
        name,
        moves,
        is_greeted: true,
        origin: Served::Large,
        known: Vec::new(),
    };
    vec![
        case(
            "6.9.1",
            "an answer keeps within a stream's window",
            vec![
                Send(settings(&[(4, 1)])),
                Await(SettingsAck),
                Send(r.get(1)),
                Await(Data(1, 1)),
                Send(window(1, 10)),
                Await(Data(1, 10)),
            ],
        ),
        case(
            "6.9.1",
            "an answer keeps within the connection's window",
            vec![
                Send(settings(&[(4, 1_000_000)])),
                Await(SettingsAck),
                Send(r.get(1)),
                Await(Data(1, 65_535)),
                Send(window(0, 100)),
                Await(Data(1, 100)),
            ],
        ),
        case(
            "6.9.2",
            "a window of 0 holds an answer back",
            vec![
                Send(settings(&[(4, 0)])),
                Await(SettingsAck),
                Send(r.get(1)),
                Await(OK),
                Await(Data(1, 0)),
                Send(settings(&[(4, 5)])),
                Await(Data(1, 5)),
            ],
        ),
        case(
            "6.9.2",
            "a window that becomes negative is kept track of",
            vec![
                Send(settings(&[(4, 10)])),
                Await(SettingsAck),
                Send(r.get(1)),
                Await(Data(1, 10)),
                Send(settings(&[(4, 2)])),
                Await(SettingsAck),
                Send(window(1, 8)),
                Await(Data(1, 0)),
                Send(window(1, 3)),
                Await(Data(1, 3)),
            ],
        ),
        case(
            "6.9",
            "an answer comes to its end",
            vec![
                Send(window(0, 1_000_000)),
                Send(settings(&[(4, 1_000_000)])),
                Send(r.get(1)),
                Await(End(1)),
            ],
        ),
        case(
            "5.4.2",
            "an answer that is given up spares the others",
            vec![
                Send(r.get(1)),
                Await(OK),
                Send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
                Send(window(0, 1_000_000)),
                Send(settings(&[(4, 1_000_000)])),
                Send(r.get(3)),
                Await(End(3)),
            ],
        ),
    ]
}

/// CONNECT, plain and extended.
fn tunnels(r: &Request<'_>) -> Vec<Case> {
    let case = |section, name, moves| Case {
        section,
        name,
        moves,
        is_greeted: true,
        origin: Served::Echo,
        known: Vec::new(),
    };
    let connect = r.but("CONNECT", &[(":scheme", None), (":path", None)]);
    let extended = r.but("CONNECT", &[(":protocol", Some("websocket"))]);
    let echoes = |fields: &[(String, String)]| {
        vec![
            Send(head(1, 0, fields)),
            Await(OK),
            Send(data(1, 0, b"ping")),
            Await(Echo(1, b"ping")),
            Send(data(1, END, b"")),
            Await(End(1)),
        ]
    };
    let malformed =
        |fields: &[(String, String)]| vec![Send(head(1, 0, fields)), Await(Malformed(1))];
    let without = |fields: &[(String, String)], name: &str| {
        fields.iter().filter(|(other, _)| other != name).cloned().collect::<Vec<_>>()
    };
    vec![
        case("8.5", "CONNECT carries bytes both ways", echoes(&connect)),
        case("8.5", "CONNECT with :scheme and :path", malformed(&r.fields("CONNECT"))),
        case("8.5", "CONNECT without :authority", malformed(&without(&connect, ":authority"))),
        case(
            "8.5",
            "a reset ends a CONNECT and spares the others",
            vec![
                Send(head(1, 0, &connect)),
                Await(OK),
                Send(head(3, 0, &connect)),
                Await(Status(3, &[200])),
                Send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
                Send(data(3, 0, b"ping")),
                Await(Echo(3, b"ping")),
            ],
        ),
        case(
            "8.5",
            "HEADERS inside a CONNECT",
            vec![
                Send(head(1, 0, &connect)),
                Await(OK),
                Send(head(1, 0, &[("x-t".to_owned(), "1".to_owned())])),
                Await(Stream(1, &[PROTOCOL, CLOSED])),
            ],
        ),
        Case {
            origin: Served::WebSocket,
            ..case("8441 5", "extended CONNECT carries a WebSocket", echoes(&extended))
        },
        case("8441 4", "extended CONNECT without :path", malformed(&without(&extended, ":path"))),
        case("8441 4", "extended CONNECT without :scheme", {
            malformed(&without(&extended, ":scheme"))
        }),
        case("8441 4", ":protocol of another method", {
            malformed(&r.but("GET", &[(":protocol", Some("websocket"))]))
        }),
    ]
}
