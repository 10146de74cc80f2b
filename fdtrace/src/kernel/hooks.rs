//! Where fdtrace attaches, as data: what each hook is for, which program goes where, what is lost without it.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Ebpf,
    programs::{FEntry, FExit, Iter, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};

use crate::process::around;

use super::{
    bpf::{self, Place},
    btf::{Functions, KernelTypes},
    capabilities::Capabilities,
    config::{Acquisitions, Emit, Filters, Settings, Stacks, Unwind},
    error::{Error, Result},
    fields,
    handle_table::Size,
    kallsyms::Symbols,
    preemption::Preemption,
    tracefs, tracer, work_queues,
};

/// The last function that is called for a handle before its memory is given back.
const CLOSES: &str = "security_file_free";
/// The most programs that are loaded at once.
const MAX_LOADERS: usize = 4;
/// What entry probes are attached through.
const KPROBE_EVENTS: &str = "/sys/bus/event_source/devices/kprobe/type";

/// A way to see the two ends of a handle's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Entry probes on `security_file_alloc` and `security_file_free`.
    Kprobe,
    /// The same functions by trampoline.
    Fentry,
    /// The slab allocator's tracepoints.
    Tracepoint,
}

impl Backend {
    /// All backends.
    pub const ALL: [Self; 3] = [Self::Kprobe, Self::Fentry, Self::Tracepoint];

    /// Its name on the command line and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// The order in which `auto` tries them. A trampoline is cheapest, but where the kernel preempts, a task that is
    /// preempted inside a program makes all others on that CPU skip it.
    #[must_use]
    pub const fn preferred(preemption: Preemption) -> [Self; 3] {
        if preemption.preempts() {
            [Self::Kprobe, Self::Fentry, Self::Tracepoint]
        } else {
            [Self::Fentry, Self::Kprobe, Self::Tracepoint]
        }
    }

    /// Why nothing of it need be tried: to load programs that cannot be attached takes a tenth of a second.
    pub(super) fn is_absent(self, kernel: &Kernel) -> Option<String> {
        match self {
            Self::Kprobe => {
                (!Path::new(KPROBE_EVENTS).exists()).then(|| format!("this kernel has no {KPROBE_EVENTS}"))
            }
            Self::Fentry => {
                let Some(function) = kernel.types.function(CLOSES) else {
                    return Some(format!("this kernel has no function {CLOSES}"));
                };
                let error = bpf::load_empty(Place::Entry(function)).err()?;
                Some(format!("fentry:{CLOSES}: refused by the kernel: {error}"))
            }
            Self::Tracepoint => None,
        }
    }

    const fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Kprobe => KPROBE,
            Self::Fentry => FENTRY,
            Self::Tracepoint => TRACEPOINT,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A handle is made.
    Allocation,
    /// A handle's memory is given back.
    Release,
    /// A handle could not be made.
    Failure,
    /// A handle is mapped into memory.
    Mapping,
    /// The same, where the end of every system call is watched anyway.
    Mappings,
    /// A process is made.
    Fork,
    /// A process runs another program.
    Exec,
    /// A process ends.
    Exit,
    /// What is open when it ends.
    OpenAtExit,
    /// What an exec closes.
    OpenAtExec,
    /// The peer of a socket hangs up.
    HangUp,
    /// A process cannot have a descriptor.
    NoDescriptor,
    /// A descriptor is installed for a handle that was there before.
    Acquisition,
    /// There is no descriptor left for it.
    Refusal,
    /// The table of live handles.
    Handles,
    /// What each live handle is.
    Describe,
    /// Which descriptors point to a handle.
    Descriptors,
    /// Which entries of the table are of handles that are gone.
    Phantoms,
    /// Which handles are pre-existing, by descriptor.
    ExistingFiles,
    /// Which handles are pre-existing, by mapping.
    ExistingMappings,
    /// The table of acquired descriptors.
    AcquiredDescriptors,
    /// Which of them are closed.
    ClosedDescriptors,
    /// What is in the tables of descriptors of some processes.
    Tables,
}

impl Role {
    /// Whether its programs take stacks: those take the verifier longest.
    const fn takes_stacks(self) -> bool {
        matches!(
            self,
            Self::Allocation
                | Self::Release
                | Self::Mapping
                | Self::Mappings
                | Self::Acquisition
                | Self::Refusal
        )
    }

    /// Its name in the doctor's table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocation => "allocation",
            Self::Release => "release",
            Self::Failure => "failed allocation",
            Self::Mapping | Self::Mappings => "mapping",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::OpenAtExit => "open at exit",
            Self::OpenAtExec => "open at exec",
            Self::HangUp => "peer hangs up",
            Self::NoDescriptor => "no descriptor left",
            Self::Handles => "live handles",
            Self::Describe => "what a handle is",
            Self::Descriptors => "who points to it",
            Self::Phantoms => "missed releases",
            Self::ExistingFiles => "older, by fd",
            Self::ExistingMappings => "older, by mapping",
            Self::Acquisition => "duplicates",
            Self::Refusal => "refused duplicates",
            Self::AcquiredDescriptors => "open duplicates",
            Self::ClosedDescriptors => "closed duplicates",
            Self::Tables => "tables of fds",
        }
    }
}

/// Where a program attaches.
#[derive(Clone, Copy, Debug)]
enum Target {
    Kprobe(&'static str),
    Kretprobe(&'static str),
    Fentry(&'static str),
    Fexit(&'static str),
    RawTracepoint(&'static str),
    /// Category and name of an event in tracefs.
    Tracepoint(&'static str, &'static str),
    Iterator(&'static str),
    /// Nowhere: it is run by user space (`BPF_PROG_TEST_RUN`).
    Run,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, place) = match self {
            Self::Tracepoint(category, name) => return write!(formatter, "tracepoint:{category}:{name}"),
            Self::Run => return formatter.write_str("test_run"),
            Self::Kprobe(place) => ("kprobe", place),
            Self::Kretprobe(place) => ("kretprobe", place),
            Self::Fentry(place) => ("fentry", place),
            Self::Fexit(place) => ("fexit", place),
            Self::RawTracepoint(place) => ("raw_tp", place),
            Self::Iterator(place) => ("iter", place),
        };
        write!(formatter, "{kind}:{place}")
    }
}

/// One program of the BPF object and its place.
#[derive(Clone, Copy, Debug)]
struct Choice {
    program: &'static str,
    target: Target,
    needs: Option<Need>,
}

/// What the kernel must be like, or a choice does harm.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// It has one of these functions.
    AnyOf {
        /// Their names.
        functions: &'static [&'static str],
        /// Why the choice is not taken without them.
        without: &'static str,
    },
    /// The function's first arguments have these names, or the program would take something else for them.
    Arguments(&'static str, &'static [&'static str]),
}

impl Need {
    /// Why the choice is not taken on this kernel.
    fn unmet(&self, kernel: &Kernel) -> Option<String> {
        match self {
            Self::AnyOf { functions, without } => {
                let met = functions.iter().any(|function| kernel.symbols.contains(function));
                (!met).then(|| (*without).to_owned())
            }
            Self::Arguments(function, wanted) => {
                let Some(found) = kernel.types.arguments(function) else {
                    return Some(format!("this kernel has no function {function}"));
                };
                let met = found.len() >= wanted.len() && found.iter().zip(*wanted).all(|(a, b)| a == b);
                (!met).then(|| {
                    format!("its arguments are ({}) and not ({}, ...)", found.join(", "), wanted.join(", "))
                })
            }
        }
    }
}

/// A hook: its choices in order of preference, and what is lost without any of them.
#[derive(Clone, Copy, Debug)]
struct Hook {
    role: Role,
    choices: &'static [Choice],
    /// `None`: nothing works without it.
    without: Option<&'static str>,
}

impl Hook {
    /// Whether the settings provide for it.
    fn is_wanted(&self, backend: Backend, settings: &Settings) -> bool {
        match self.role {
            Role::Failure => settings.failures,
            Role::Mapping => settings.mappings && !(settings.fd_exit_scan && backend == Backend::Tracepoint),
            Role::Mappings => settings.mappings && settings.fd_exit_scan,
            Role::OpenAtExit | Role::OpenAtExec | Role::HangUp | Role::NoDescriptor => settings.fd_exit_scan,
            Role::Acquisition => settings.descriptors == Acquisitions::Watched,
            Role::Refusal => settings.descriptors == Acquisitions::Watched && !settings.fd_exit_scan,
            Role::AcquiredDescriptors | Role::ClosedDescriptors | Role::Tables => {
                settings.descriptors != Acquisitions::Off
            }
            _ => true,
        }
    }

    /// Whether another's program does what this one is for.
    fn is_in_another(&self, backend: Backend, settings: &Settings) -> bool {
        let has_mappings = |hook: &Hook| hook.role == Role::Mappings && hook.is_wanted(backend, settings);
        self.role == Role::Acquisition && backend.hooks().iter().any(has_mappings)
    }
}

impl Choice {
    /// Whether this kernel is as it needs it.
    fn is_met(&self, kernel: &Kernel) -> bool {
        self.needs.is_none_or(|need| need.unmet(kernel).is_none())
    }
}

const fn choice(program: &'static str, target: Target) -> Choice {
    Choice { program, target, needs: None }
}

const FAILURE_FEXIT: Choice = choice("failure_fexit", Target::Fexit("alloc_empty_file"));

/// A return probe puts its own return address on the stack of the very function that allocates. Before 5.16 the unwinder
/// could not see through that, and every kernel stack ended there.
const FAILURE_KRETPROBE: Choice = Choice {
    program: "failure_kretprobe",
    target: Target::Kretprobe("alloc_empty_file"),
    needs: Some(Need::AnyOf {
        functions: &["kretprobe_find_ret_addr", "rethook_find_ret_addr"],
        without: "it would hide the kernel stacks on this kernel",
    }),
};

const RELEASE_KPROBE: Choice = choice("release_kprobe", Target::Kprobe(CLOSES));
const RELEASE_FENTRY: Choice = choice("release_fentry", Target::Fentry(CLOSES));
const CLOSING_KPROBE: Choice = choice("closing_kprobe", Target::Kprobe(CLOSES));
const CLOSING_FENTRY: Choice = choice("closing_fentry", Target::Fentry(CLOSES));

const MMAP_REGION: Option<Need> = Some(Need::Arguments("mmap_region", &["file", "addr", "len"]));

const MAPPING_KPROBE: Choice =
    Choice { program: "mapping_kprobe", target: Target::Kprobe("mmap_region"), needs: MMAP_REGION };

const MAPPING_FENTRY: Choice =
    Choice { program: "mapping_fentry", target: Target::Fentry("mmap_region"), needs: MMAP_REGION };

const MAPPING_ANY: Choice = choice("mapping_any", Target::RawTracepoint("sys_exit"));
const NO_MAPPINGS: Option<&str> = Some("who mapped a handle is unknown");

const NO_FAILURES: Option<&str> = Some("ENFILE and ENOMEM of allocations are not counted");

const FORK: Hook = Hook {
    role: Role::Fork,
    choices: &[choice("process_fork", Target::RawTracepoint("sched_process_fork"))],
    without: None,
};
const EXEC: Hook = Hook {
    role: Role::Exec,
    choices: &[choice("process_exec", Target::RawTracepoint("sched_process_exec"))],
    without: None,
};
const EXIT: Hook = Hook {
    role: Role::Exit,
    choices: &[choice("process_exit", Target::RawTracepoint("sched_process_exit"))],
    without: None,
};
/// Before [`EXIT`]: programs of one tracepoint run in the order in which they were attached.
const OPEN_AT_EXIT: Hook = Hook {
    role: Role::OpenAtExit,
    choices: &[choice("fd_scan_exit", Target::RawTracepoint("sched_process_exit"))],
    without: None,
};

const HANG_UP: Hook = Hook {
    role: Role::HangUp,
    choices: &[choice("socket_state", Target::RawTracepoint("inet_sock_set_state"))],
    without: Some("how long sockets have been in CLOSE_WAIT is unknown"),
};

const EXEC_KPROBE: Choice = choice("fd_scan_exec_kprobe", Target::Kprobe("do_close_on_exec"));
const EXEC_FENTRY: Choice = choice("fd_scan_exec_fentry", Target::Fentry("do_close_on_exec"));
const EXEC_TRACEPOINT: Choice = choice("fd_scan_exec", Target::RawTracepoint("sched_prepare_exec"));
const NO_EXEC: Option<&str> = Some("what an exec closes is not seen");

const NO_DESCRIPTOR_KRETPROBE: Choice =
    choice("descriptor_kretprobe", Target::Kretprobe("get_unused_fd_flags"));
const NO_DESCRIPTOR_FEXIT: Choice = choice("descriptor_fexit", Target::Fexit("get_unused_fd_flags"));
const NO_DESCRIPTOR_SYSCALL: Choice = choice("descriptor_syscall", Target::RawTracepoint("sys_exit"));
const NO_EMFILE: Option<&str> = Some("EMFILE is not seen");

const DESCRIBE: Hook = Hook {
    role: Role::Describe,
    choices: &[choice("query_describe", Target::Run)],
    without: Some("the kind of a handle is unknown; handles without a descriptor have no name"),
};
const DESCRIPTORS: Hook = Hook {
    role: Role::Descriptors,
    choices: &[
        choice("iter_paths", Target::Iterator("task_file")),
        choice("iter_descriptors", Target::Iterator("task_file")),
    ],
    without: Some("examples have no descriptor number and no full path"),
};

const PHANTOMS: Hook = Hook {
    role: Role::Phantoms,
    choices: &[choice("query_phantoms", Target::Run)],
    without: Some("a release whose run was skipped leaves a handle that seems to live"),
};

const EXISTING_FILES: Hook = Hook {
    role: Role::ExistingFiles,
    choices: &[choice("iter_existing_files", Target::Iterator("task_file"))],
    without: Some("handles that are pre-existing are not found"),
};

const EXISTING_MAPPINGS: Hook = Hook {
    role: Role::ExistingMappings,
    choices: &[choice("iter_existing_mappings", Target::Iterator("task_vma"))],
    without: Some("of the handles that are pre-existing, those that only mappings hold are not found"),
};

const BATCHES: Option<&str> =
    Some("it is looked up in batches; on a kernel that preempts, kprobes may be missed meanwhile");
const HANDLES: Hook = Hook {
    role: Role::Handles,
    choices: &[choice("iter_handles", Target::Iterator("bpf_map_elem"))],
    without: BATCHES,
};

const NO_ACQUISITIONS: Option<&str> = Some(
    "who repeats a handle by dup, or gets it in a message, is not seen; `live` still counts descriptors",
);

/// All ways to a new descriptor for a handle, but those over an existing number.
const ACQUIRED_KPROBE: Choice = choice("acquired_kprobe", Target::Kprobe("fd_install"));
const ACQUIRED_FENTRY: Choice = choice("acquired_fentry", Target::Fentry("fd_install"));
const ACQUIRED_OVER_KPROBE: Choice = choice("acquired_over_kprobe", Target::Kprobe("do_dup2"));
const ACQUIRED_OVER_FENTRY: Choice = choice("acquired_over_fentry", Target::Fentry("do_dup2"));
const ACQUIRED_MESSAGE_KPROBE: Choice = choice("acquired_message_kprobe", Target::Kprobe("scm_detach_fds"));
const ACQUIRED_MESSAGE_FENTRY: Choice = choice("acquired_message_fentry", Target::Fentry("scm_detach_fds"));
const NO_OVER: Option<&str> = Some("what dup2 and dup3 repeat is not seen");
const NO_MESSAGES: Option<&str> = Some("each descriptor of a message counts as a call");

const REFUSAL: Hook = Hook {
    role: Role::Refusal,
    choices: &[choice("acquired_refused", Target::RawTracepoint("sys_exit"))],
    without: Some("of a process that has no descriptors left, who asks for more is not seen"),
};
const ACQUIRED_DESCRIPTORS: Hook = Hook {
    role: Role::AcquiredDescriptors,
    choices: &[choice("iter_acquired", Target::Iterator("bpf_map_elem"))],
    without: BATCHES,
};
const CLOSED_DESCRIPTORS: Hook = Hook {
    role: Role::ClosedDescriptors,
    choices: &[choice("query_closed", Target::Run)],
    without: Some("duplicates that are closed count as open until their number is used again"),
};
const TABLES: Hook = Hook {
    role: Role::Tables,
    choices: &[choice("iter_tables", Target::Iterator("task_file"))],
    without: Some("which handle a table of descriptors repeats is not seen"),
};

// Processes first: a handle's allocation must find its process known. Then the release, then the allocation: no handle
// gets into the table whose release cannot be seen.
const KPROBE: &[Hook] = &[
    FORK,
    EXEC,
    OPEN_AT_EXIT,
    EXIT,
    HANG_UP,
    Hook { role: Role::OpenAtExec, choices: &[EXEC_TRACEPOINT, EXEC_KPROBE, EXEC_FENTRY], without: NO_EXEC },
    Hook {
        role: Role::NoDescriptor,
        choices: &[NO_DESCRIPTOR_KRETPROBE, NO_DESCRIPTOR_FEXIT, NO_DESCRIPTOR_SYSCALL],
        without: NO_EMFILE,
    },
    Hook { role: Role::Release, choices: &[CLOSING_KPROBE, RELEASE_KPROBE], without: None },
    Hook {
        role: Role::Allocation,
        choices: &[choice("alloc_kprobe", Target::Kprobe("security_file_alloc"))],
        without: None,
    },
    Hook { role: Role::Failure, choices: &[FAILURE_KRETPROBE, FAILURE_FEXIT], without: NO_FAILURES },
    Hook { role: Role::Mapping, choices: &[MAPPING_KPROBE, MAPPING_FENTRY], without: NO_MAPPINGS },
    HANDLES,
    DESCRIBE,
    DESCRIPTORS,
    PHANTOMS,
    EXISTING_FILES,
    EXISTING_MAPPINGS,
    Hook {
        role: Role::Acquisition,
        choices: &[ACQUIRED_MESSAGE_KPROBE, ACQUIRED_MESSAGE_FENTRY],
        without: NO_MESSAGES,
    },
    Hook {
        role: Role::Acquisition,
        choices: &[ACQUIRED_OVER_KPROBE, ACQUIRED_OVER_FENTRY],
        without: NO_OVER,
    },
    Hook { role: Role::Acquisition, choices: &[ACQUIRED_KPROBE, ACQUIRED_FENTRY], without: NO_ACQUISITIONS },
    REFUSAL,
    ACQUIRED_DESCRIPTORS,
    CLOSED_DESCRIPTORS,
    TABLES,
];

const FENTRY: &[Hook] = &[
    FORK,
    EXEC,
    OPEN_AT_EXIT,
    EXIT,
    HANG_UP,
    Hook { role: Role::OpenAtExec, choices: &[EXEC_TRACEPOINT, EXEC_FENTRY, EXEC_KPROBE], without: NO_EXEC },
    Hook {
        role: Role::NoDescriptor,
        choices: &[NO_DESCRIPTOR_FEXIT, NO_DESCRIPTOR_KRETPROBE, NO_DESCRIPTOR_SYSCALL],
        without: NO_EMFILE,
    },
    Hook { role: Role::Release, choices: &[CLOSING_FENTRY, RELEASE_FENTRY], without: None },
    Hook {
        role: Role::Allocation,
        choices: &[choice("alloc_fentry", Target::Fentry("security_file_alloc"))],
        without: None,
    },
    Hook { role: Role::Failure, choices: &[FAILURE_FEXIT], without: NO_FAILURES },
    Hook { role: Role::Mapping, choices: &[MAPPING_FENTRY, MAPPING_KPROBE], without: NO_MAPPINGS },
    HANDLES,
    DESCRIBE,
    DESCRIPTORS,
    PHANTOMS,
    EXISTING_FILES,
    EXISTING_MAPPINGS,
    Hook {
        role: Role::Acquisition,
        choices: &[ACQUIRED_MESSAGE_FENTRY, ACQUIRED_MESSAGE_KPROBE],
        without: NO_MESSAGES,
    },
    Hook {
        role: Role::Acquisition,
        choices: &[ACQUIRED_OVER_FENTRY, ACQUIRED_OVER_KPROBE],
        without: NO_OVER,
    },
    Hook { role: Role::Acquisition, choices: &[ACQUIRED_FENTRY, ACQUIRED_KPROBE], without: NO_ACQUISITIONS },
    REFUSAL,
    ACQUIRED_DESCRIPTORS,
    CLOSED_DESCRIPTORS,
    TABLES,
];

const TRACEPOINT: &[Hook] = &[
    FORK,
    EXEC,
    OPEN_AT_EXIT,
    EXIT,
    HANG_UP,
    Hook { role: Role::OpenAtExec, choices: &[EXEC_TRACEPOINT], without: NO_EXEC },
    Hook { role: Role::NoDescriptor, choices: &[NO_DESCRIPTOR_SYSCALL], without: NO_EMFILE },
    Hook {
        role: Role::Release,
        choices: &[choice("release_slab", Target::RawTracepoint("kmem_cache_free"))],
        without: None,
    },
    Hook {
        role: Role::Allocation,
        choices: &[choice("alloc_slab", Target::RawTracepoint("kmem_cache_alloc"))],
        without: None,
    },
    Hook { role: Role::Failure, choices: &[], without: NO_FAILURES },
    Hook { role: Role::Mappings, choices: &[MAPPING_ANY], without: NO_MAPPINGS },
    Hook {
        role: Role::Mapping,
        choices: &[choice("mapping_mmap", Target::Tracepoint("syscalls", "sys_exit_mmap"))],
        without: NO_MAPPINGS,
    },
    Hook {
        role: Role::Mapping,
        choices: &[choice("mapping_shmat", Target::Tracepoint("syscalls", "sys_exit_shmat"))],
        without: Some("who attached a SysV segment is reported by the allocation alone"),
    },
    HANDLES,
    DESCRIBE,
    DESCRIPTORS,
    PHANTOMS,
    EXISTING_FILES,
    EXISTING_MAPPINGS,
    Hook {
        role: Role::Acquisition,
        choices: &[choice("acquired_any", Target::RawTracepoint("sys_exit"))],
        without: NO_ACQUISITIONS,
    },
    ACQUIRED_DESCRIPTORS,
    CLOSED_DESCRIPTORS,
    TABLES,
];

/// How a hook came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Attached at its first choice.
    Attached(String),
    /// Attached elsewhere; the reason why the first choice failed.
    Alternative(String, String),
    /// Not attached: the reason, and what is lost.
    Missing(String, &'static str),
    /// Not attached, and the backend does not work without it.
    Fatal(String),
    /// Not asked for.
    Off,
}

/// One line of the doctor's table.
#[derive(Clone, Debug)]
pub struct HookReport {
    /// What the hook is for.
    pub role: Role,
    /// How it came out.
    pub state: State,
    /// The program that is attached.
    pub program: Option<&'static str>,
}

/// How a backend does on this kernel.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Which one.
    pub backend: Backend,
    /// Its hooks, in the order of attachment.
    pub hooks: Vec<HookReport>,
    /// What this kernel makes of it, beyond single hooks.
    pub remarks: Vec<String>,
}

impl BackendReport {
    /// The reason why it does not work, if it does not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.hooks.iter().find_map(|hook| match &hook.state {
            State::Fatal(reason) => Some(format!("{}: {reason}", hook.role.name())),
            _ => None,
        })
    }
}

/// What has to be known of the running kernel before anything is loaded.
pub struct Kernel {
    pub(super) types: KernelTypes,
    pub(super) symbols: Symbols,
    /// Its preemption model.
    pub preemption: Preemption,
    /// What this process may do.
    pub capabilities: Capabilities,
    /// `uname -r`
    pub release: String,
}

impl Kernel {
    /// Looks at the running kernel.
    ///
    /// # Errors
    /// When it has no BTF, or its BTF cannot be read.
    pub fn inspect() -> Result<Self> {
        Ok(Self {
            types: KernelTypes::open()?,
            symbols: Symbols::load().unwrap_or_default(),
            preemption: Preemption::current(),
            capabilities: Capabilities::current(),
            release: around::kernel_release(),
        })
    }

    /// Kernel functions by address.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Gives the table of kernel functions away, to whoever resolves stacks.
    #[must_use]
    pub fn into_symbols(self) -> Symbols {
        self.symbols
    }

    /// What a backend does badly on this kernel, although it attaches; `more` is known of it besides.
    pub(super) fn remarks(&self, backend: Backend, more: Vec<String>) -> Vec<String> {
        let mut remarks = Vec::new();
        if backend == Backend::Fentry && self.preemption.preempts() {
            remarks.push(
                "this kernel preempts tasks inside fentry programs: runs are skipped, and counted as lost",
            );
        }
        if backend == Backend::Tracepoint {
            if self.symbols.contains("file_free_rcu") {
                remarks.push("releases are seen late and in another task: their cause is unknown");
            }
            if !self.symbols.has_addresses() {
                remarks
                    .push("kernel addresses are hidden (CAP_SYSLOG), so allocations cannot be distinguished");
            }
            if self.preemption.preempts() {
                remarks
                    .push("this kernel may preempt tasks inside tracepoint programs: missed probes are lost");
            }
        }
        remarks.into_iter().map(str::to_owned).chain(more).collect()
    }
}

/// The functions of the kernel that programs are loaded for by their numbers.
pub(super) fn functions(types: &KernelTypes) -> Functions {
    let hooks = Backend::ALL.into_iter().flat_map(Backend::hooks);
    let names = hooks.flat_map(|hook| hook.choices).filter_map(|choice| match choice.target {
        Target::Fentry(function) | Target::Fexit(function) => Some(function.to_owned()),
        Target::Iterator(kind) => Some(format!("bpf_iter_{kind}")),
        _ => None,
    });
    Functions::of(types, names)
}

/// Loads what a backend attaches, several programs at once: the verifier takes longer than all the rest. What cannot be loaded is
/// tried again where it is attached, which says why.
pub(super) fn load(ebpf: &mut Ebpf, btf: &aya::Btf, kernel: &Kernel, backend: Backend, settings: &Settings) {
    let first = |hook: &'static Hook| choices(hook, settings).iter().find(|choice| choice.is_met(kernel));
    let wanted: HashMap<&str, (Role, Target)> = backend
        .hooks()
        .iter()
        .filter(|hook| hook.is_wanted(backend, settings) && !hook.is_in_another(backend, settings))
        .filter_map(|hook| first(hook).map(|choice| (choice.program, (hook.role, choice.target))))
        .collect();
    let mut programs: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| {
            wanted.get(name).map(|(role, target)| (role.takes_stacks(), program, *target))
        })
        .collect();
    // The last are begun first.
    programs.sort_by_key(|(takes_long, ..)| *takes_long);
    let programs = Mutex::new(programs);
    let next = || programs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(MAX_LOADERS) {
            scope.spawn(|| {
                while let Some((_, program, target)) = next() {
                    let _ = load_program(program, btf, target);
                }
            });
        }
    });
}

/// Attaches a backend's hooks; a hook that nothing works without ends it.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    kernel: &Kernel,
    backend: Backend,
    settings: &Settings,
) -> Vec<HookReport> {
    let mut reports = Vec::new();
    for hook in backend.hooks() {
        let wanted = hook.is_wanted(backend, settings);
        // Where the end of every system call is watched for mappings, one program does both.
        let both = reports.iter().find(|known: &&HookReport| {
            hook.role == Role::Acquisition && known.role == Role::Mappings && known.program.is_some()
        });
        let report = if let Some(both) = both.filter(|_| wanted) {
            HookReport { role: hook.role, ..both.clone() }
        } else if wanted {
            attach_hook(ebpf, btf, Some(kernel), &Hook { choices: choices(hook, settings), ..*hook })
        } else {
            HookReport { role: hook.role, state: State::Off, program: None }
        };
        let fatal = matches!(report.state, State::Fatal(_));
        reports.push(report);
        if fatal {
            break;
        }
    }
    reports
}

/// The first one of a release, where there are two, tells as well who closes.
fn choices(hook: &Hook, settings: &Settings) -> &'static [Choice] {
    match hook.choices {
        [_, without] if hook.role == Role::Release && !settings.closers => std::slice::from_ref(without),
        all => all,
    }
}

/// Attaches what was left for later, and says whether any of it could be. These hooks need nothing of the kernel that has to be
/// known beforehand.
pub(super) fn attach_late(ebpf: &mut Ebpf, btf: &aya::Btf, report: &mut BackendReport) -> bool {
    let mut attached = false;
    for (hook, known) in report.backend.hooks().iter().zip(&mut report.hooks) {
        if matches!(hook.role, Role::Acquisition | Role::Refusal) && known.state == State::Off {
            *known = attach_hook(ebpf, btf, None, hook);
            attached |= known.program.is_some();
        }
    }
    attached
}

fn attach_hook(ebpf: &mut Ebpf, btf: &aya::Btf, kernel: Option<&Kernel>, hook: &Hook) -> HookReport {
    let mut reasons = Vec::new();
    for choice in hook.choices {
        let unmet = choice.needs.and_then(|need| need.unmet(kernel?));
        match unmet.map_or_else(|| attach_choice(ebpf, btf, choice), Err) {
            Ok(()) => {
                let target = choice.target.to_string();
                let state = match reasons.is_empty() {
                    true => State::Attached(target),
                    false => State::Alternative(target, reasons.join("; ")),
                };
                return HookReport { role: hook.role, state, program: Some(choice.program) };
            }
            Err(reason) => reasons.push(format!("{}: {reason}", choice.target)),
        }
    }
    // Two programs for one place may fail alike.
    reasons.dedup();
    let reason = if reasons.is_empty() { "not seen by this backend".to_owned() } else { reasons.join("; ") };
    let state = match hook.without {
        Some(lost) => State::Missing(reason, lost),
        None => State::Fatal(reason),
    };
    HookReport { role: hook.role, state, program: None }
}

fn attach_choice(ebpf: &mut Ebpf, btf: &aya::Btf, choice: &Choice) -> std::result::Result<(), String> {
    let program = ebpf.program_mut(choice.program).ok_or("the program is not in the object")?;
    load_program(program, btf, choice.target)
        .and_then(|()| attach_program(program, choice.target))
        .map_err(|error| reason(&error))
}

/// Does nothing where it is loaded.
fn load_program(
    program: &mut Program,
    btf: &aya::Btf,
    target: Target,
) -> std::result::Result<(), ProgramError> {
    if program.fd().is_ok() {
        return Ok(());
    }
    match target {
        Target::Kprobe(_) | Target::Kretprobe(_) => <&mut KProbe>::try_from(program)?.load(),
        Target::Fentry(function) => <&mut FEntry>::try_from(program)?.load(function, btf),
        Target::Fexit(function) => <&mut FExit>::try_from(program)?.load(function, btf),
        Target::RawTracepoint(_) | Target::Run => <&mut RawTracePoint>::try_from(program)?.load(),
        Target::Tracepoint(..) => <&mut TracePoint>::try_from(program)?.load(),
        Target::Iterator(kind) => <&mut Iter>::try_from(program)?.load(kind, btf),
    }
}

fn attach_program(program: &mut Program, target: Target) -> std::result::Result<(), ProgramError> {
    match target {
        Target::Kprobe(function) | Target::Kretprobe(function) => {
            <&mut KProbe>::try_from(program)?.attach(function, 0)?;
        }
        Target::Fentry(_) => {
            <&mut FEntry>::try_from(program)?.attach()?;
        }
        Target::Fexit(_) => {
            <&mut FExit>::try_from(program)?.attach()?;
        }
        Target::RawTracepoint(name) => {
            <&mut RawTracePoint>::try_from(program)?.attach(name)?;
        }
        Target::Tracepoint(category, name) => {
            let program = <&mut TracePoint>::try_from(program)?;
            tracefs::mounted(|| program.attach(category, name))?;
        }
        // An iterator is attached each time that it is read.
        Target::Iterator(_) | Target::Run => {}
    }
    Ok(())
}

/// The error in one line; a verifier's log only where somebody debugs.
pub(super) fn reason(error: &ProgramError) -> String {
    if std::env::var_os("FDTRACE_VERIFIER_LOG").is_some() {
        return format!("{error:?}");
    }
    let mut reason = match error {
        ProgramError::LoadError { io_error, .. } => format!("refused by the kernel: {io_error}"),
        other => other.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !reason.ends_with(&text) {
            reason = format!("{reason}: {text}");
        }
        source = inner.source();
    }
    reason.lines().next().unwrap_or_default().to_owned()
}

/// Tries every backend: loads and attaches its programs, and takes them away again.
///
/// # Errors
/// When the object itself cannot be loaded.
pub fn survey(kernel: &mut Kernel) -> Result<Vec<BackendReport>> {
    if let Some(missing) = kernel.capabilities.missing_for_tracing().first() {
        return Err(Error::Capability { missing: missing.to_string() });
    }
    let settings = Settings {
        backend: None,
        filters: Filters::default(),
        stacks: Stacks::Both,
        unwind: Unwind::BEST,
        ring_bytes: 4096,
        max_handles: 1024,
        failures: true,
        mappings: true,
        fd_exit_scan: true,
        descriptors: Acquisitions::Watched,
        closers: true,
        submitters: true,
        compare_stacks: false,
        emit: Emit::All,
        object: None,
    };
    let btf = functions(&kernel.types).for_loader();
    Backend::ALL
        .into_iter()
        .map(|backend| {
            let found = fields::find(&mut kernel.types)?;
            let mut ebpf = tracer::load(
                kernel,
                &found.fields,
                &settings,
                backend,
                Size::of(settings.max_handles),
                &btf,
            )?;
            let hooks = attach(&mut ebpf, &btf, kernel, backend, &settings);
            let mut remarks = kernel.remarks(backend, found.remarks);
            if let Err(reason) = work_queues::load_all(&mut ebpf) {
                remarks.push(format!("asynchronous work is not followed back to who submitted it: {reason}"));
            }
            Ok(BackendReport { backend, hooks, remarks })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preempting_kernels_get_entry_probes_first() {
        assert_eq!(Backend::preferred(Preemption::None)[0], Backend::Fentry);
        assert_eq!(Backend::preferred(Preemption::Lazy)[0], Backend::Kprobe);
        assert_eq!(Backend::preferred(Preemption::Unknown)[0], Backend::Kprobe);
    }

    #[test]
    fn release_is_attached_before_allocation() {
        for backend in Backend::ALL {
            let position = |role| backend.hooks().iter().position(|hook| hook.role == role);
            assert!(position(Role::Release) < position(Role::Allocation));
            assert!(position(Role::Fork) < position(Role::Release));
        }
    }
}
