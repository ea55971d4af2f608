use core::marker::PhantomData;

use super::{
    BLOCK, Control, FlowCell, Found, HomeWord, Link, StateWord, TEMPLATE_SHIFT, Times, WINDOW,
    home::Lock,
    lookup::{self, Window, find_cold},
    release, state, template, word,
};
use crate::{
    conn::Counted,
    family::Family,
    layout::ForwardMethod,
    load,
    tables::{Cell, Step, Tables},
    time::Tick,
};

/// A connection to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// Server slot.
    pub slot: u32,
    /// How packets reach it.
    pub method: ForwardMethod,
    /// First protocol state.
    pub state: u8,
    /// What it counts as on its server.
    pub counted: Counted,
    /// Time-out in ticks.
    pub timeout: u32,
    /// Whether the server is to be told the client's address.
    pub tells_client: bool,
    /// Index + 1 of the template that it belongs to and is counted in, or 0.
    pub template: u64,
}

impl NewFlow {
    /// What its cell will hold.
    #[inline(always)]
    pub fn prepare(&self, now: Tick) -> Prepared {
        let mut live = StateWord(0).live(self.state, self.counted);
        if self.tells_client {
            live = live.telling_client();
        }
        if self.method.translates() {
            live = live.seeing_replies();
        }
        let dest = FlowCell::<()>::dest_word(self.slot, self.method);
        Prepared {
            live,
            times: Times::new(now, self.timeout).0,
            dest: dest | self.template << TEMPLATE_SHIFT,
            link: Link::NONE.0,
            spare: 0,
            load: state::load_of(self.counted as u8),
            takes_over: 0,
            service: [0; 3],
            absent: HomeWord::NONE,
        }
    }
}

/// Words of [`Prepared`].
pub const PREPARED_WORDS: usize = 11;

/// What a new cell holds besides its key, in words: a connection
/// ([`NewFlow`]), a template ([`NewTemplate`](super::NewTemplate)) or a reverse
/// cell ([`NewReverse`](super::NewReverse)). One form for the three, so that there
/// is one way into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The live state word, of generation 0.
    pub(super) live: StateWord,
    /// [`word::TIMES`].
    pub(super) times: u64,
    /// [`word::DEST`].
    pub(super) dest: u64,
    /// [`word::LINK`]; of a template, its [`Control`](super::Control) of
    /// generation 0.
    pub(super) link: u64,
    /// [`word::SPARE`].
    pub(super) spare: u64,
    /// What a connection adds to its server's.
    pub(super) load: u64,
    /// Not 0 of a reverse cell that takes the replies from a living connection.
    pub(super) takes_over: u64,
    /// Of a template by Call-ID, [`NewTemplate::service`](super::NewTemplate).
    pub(super) service: [u64; 3],
    /// What [`find_or_home`](super::find_or_home) saw when it did not find the key, or
    /// [`HomeWord::NONE`].
    pub(super) absent: HomeWord,
}

impl Prepared {
    /// Of a key that was not found when its home was as `home` says: while it is still so,
    /// the table need not be searched again.
    #[inline(always)]
    pub const fn absent_from(mut self, home: HomeWord) -> Self {
        self.absent = home;
        self
    }

    /// As words.
    #[inline(always)]
    pub const fn words(self) -> [u64; PREPARED_WORDS] {
        let [first, second, port] = self.service;
        [
            self.live.0,
            self.times,
            self.dest,
            self.link,
            self.spare,
            self.load,
            self.takes_over,
            first,
            second,
            port,
            self.absent.0,
        ]
    }

    /// Of [`Self::words`].
    #[inline(always)]
    pub const fn from_words(words: [u64; PREPARED_WORDS]) -> Self {
        let [
            live,
            times,
            dest,
            link,
            spare,
            load,
            takes_over,
            first,
            second,
            port,
            absent,
        ] = words;
        Self {
            live: StateWord(live),
            times,
            dest,
            link,
            spare,
            load,
            takes_over,
            service: [first, second, port],
            absent: HomeWord(absent),
        }
    }

    /// A connection's first protocol state.
    #[inline(always)]
    pub const fn protocol_state(self) -> u8 {
        self.live.protocol_state()
    }

    /// What the cell is linked to: a reverse cell's connection.
    #[inline(always)]
    pub const fn link(self) -> Link {
        Link(self.link)
    }

    /// Whether the cell that was found under the key may make way.
    #[inline(always)]
    fn replaces<F: Family, T: Tables>(&self, tables: T, found: &Found<T::Cell>, now: Tick) -> bool {
        if self.live.is_template() {
            return found.times.is_dead(now) && template::close(found.cell, found.state);
        }
        if !found.state.is_reverse() {
            return found.times.is_dead(now);
        }
        let link = found.cell.link();
        let Some(conn) = lookup::linked::<F, T>(tables, link) else {
            return true;
        };
        let is_renewed = self.takes_over != 0 || link.0 == self.link || conn.times.is_dead(now);
        let replaces = self.live.is_reverse() && is_renewed;
        // The older connection must look for its reverse cell again, to have it back
        // when the newer one is over.
        if replaces
            && self.takes_over != 0
            && ForwardMethod::from_bits(conn.method()) == ForwardMethod::Masq
        {
            let packed = conn.cell.client_way::<F>();
            if conn.cell.state().generation() == conn.state.generation() {
                conn.cell.forget_client_way::<F>(packed);
            }
        }
        replaces
    }

    /// Writes the words of a cell of `generation` that nobody else touches.
    #[inline(always)]
    fn fill<F: Family, C: Cell>(&self, cell: FlowCell<C>, generation: u32) {
        let link = if self.live.is_template() {
            Control(self.link).of_generation(generation).0
        } else {
            self.link
        };
        cell.0.store(word::TIMES, self.times);
        cell.0.store(word::DEST, self.dest);
        cell.0.store(word::LINK, link);
        cell.0.store(word::SPARE, self.spare);
        if self.live.is_template() {
            let [first, second, port] = self.service;
            cell.keep_local::<F>([first, second], port as u16);
        }
    }

    /// Counts it on its server.
    #[inline(always)]
    fn bind<T: Tables>(&self, tables: T) {
        if self.live.is_template() {
            load::bind_template(tables, self.dest as u32);
        } else if !self.live.is_reverse() {
            load::bind(tables, self.dest as u32, self.load);
        }
    }
}

/// Outcome of an insert.
pub enum Inserted {
    /// The flow is in the table, in this cell.
    New(Link),
    /// There is one under this key. (Not which: two ways to a cell, joined, are what
    /// the verifier refuses.)
    Exists,
    /// The window and the stash are full.
    Full,
    /// The lock of the home cell was not to be had.
    Contended,
}

/// Inserts `key`, unless it is there. One of the same key that makes way is
/// released first.
#[inline(always)]
pub fn insert<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    now: Tick,
    flow: &Prepared,
) -> Inserted {
    let sum = F::hash(tables, key);
    let home = lookup::home_of_sum::<F, T>(tables, sum);
    let Some((lock, before)) = Lock::take::<F, T>(tables, home, now) else {
        return Inserted::Contended;
    };
    // Whoever inserts a key of this home changes its word.
    let is_absent = before == flow.absent && !before.is_locked();
    let outcome = if !is_absent && is_present::<F, T>(tables, key, now, flow, sum, home) {
        Inserted::Exists
    } else {
        place::<F, T>(tables, key, flow, sum, home)
    };
    lock.give_back::<F, T>(tables);
    outcome
}

/// Whether there is a flow of `key` that is to be used; a dead one is released.
#[inline(always)]
fn is_present<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    now: Tick,
    flow: &Prepared,
    sum: u64,
    home: u32,
) -> bool {
    let Some(found) = find_cold::<F, T>(tables, key, sum, home) else {
        return false;
    };
    if !flow.replaces::<F, T>(tables, &found, now) {
        return true;
    }
    if release::<F, T>(tables, found.cell, found.index, found.state) {
        return false;
    }
    // Either the sweep freed it, or a packet on another CPU, for which it was
    // not dead yet, changed its state: then it lives on, and a second cell
    // would be a duplicate.
    find_cold::<F, T>(tables, key, sum, home).is_some()
}

/// Claims a free cell in the window, else in the stash, and publishes the flow.
#[inline(always)]
fn place<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    flow: &Prepared,
    sum: u64,
    home: u32,
) -> Inserted {
    if let Some((index, seen)) = claim::<F, T>(tables, Window::main::<F, T>(tables, home)) {
        fill::<F, T>(tables, index, seen, key, flow);
        return Inserted::New(Link::new(index, seen.generation()));
    }
    let Some(home) = tables.cell(F::FLOW, home) else {
        return Inserted::Full;
    };
    if HomeWord(home.load(word::HOME)).is_full() {
        return Inserted::Full;
    }
    let Some((index, seen)) = claim::<F, T>(tables, Window::stash::<F, T>(tables, sum)) else {
        return Inserted::Full;
    };
    // Before the flow can be seen: look-ups that find the count 0 do not come here.
    home.add(word::HOME, HomeWord::SPILL);
    fill::<F, T>(tables, index, seen, key, flow);
    Inserted::New(Link::new(index, seen.generation()))
}

#[derive(Clone, Copy)]
struct Claim<F> {
    window: Window,
    index: u64,
    seen: u64,
    done: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for Claim<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, i: u32) -> bool {
        let index = self.window.index(i);
        let Some(cell) = tables.cell(F::FLOW, index) else {
            return true;
        };
        let cell = FlowCell(cell);
        let seen = cell.state();
        if !seen.is_free() || !cell.set_state(seen, seen.busy()) {
            return true;
        }
        self.index = index.into();
        self.seen = seen.0;
        self.done = 1;
        false
    }
}

/// A cell of the window, now busy and ours, and the state it was free in.
#[inline(always)]
fn claim<F: Family, T: Tables>(tables: T, window: Window) -> Option<(u32, StateWord)> {
    let mut claim = Claim::<F> {
        window,
        index: 0,
        seen: 0,
        done: 0,
        family: PhantomData,
    };
    // The home cell itself is free more often than not, and a loop is a call.
    if claim.step(tables, 0) {
        tables.repeat(WINDOW, &mut claim);
    }
    (claim.done != 0).then_some((claim.index as u32, StateWord(claim.seen)))
}

/// Fills and publishes a claimed cell.
#[inline(always)]
fn fill<F: Family, T: Tables>(
    tables: T,
    index: u32,
    seen: StateWord,
    key: &F::Key,
    flow: &Prepared,
) {
    let Some(cell) = tables.cell(F::FLOW, index) else {
        return;
    };
    let cell = FlowCell(cell);
    let mut k = 0;
    while k < F::KEY_WORDS {
        cell.0.store(word::KEY + k, F::key_word(key, k));
        k += 1;
    }
    flow.fill::<F, _>(cell, seen.generation());
    // Every count goes up before the flow can be seen, so that no release can
    // take one down first.
    if let Some(block) = tables.cell(F::BLOCKS, index / BLOCK) {
        block.add(0, 1);
    }
    flow.bind(tables);
    // Cannot fail: nobody else touches a busy cell.
    cell.set_state(seen.busy(), flow.live.of_generation(seen.generation()));
}
