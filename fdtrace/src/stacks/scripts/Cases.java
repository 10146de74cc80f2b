// Says at many places what its own calls are: a line of JSON each; and opens a file of its own there, which it keeps. Java 11 and
// later.

import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.function.IntUnaryOperator;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

public class Cases {
    static final List<Object> kept = new ArrayList<>();
    static String folder;
    static int files;

    static String text(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    // A call as fdtrace has it: the source file is in the folder of its package.
    static String call(StackTraceElement call, int line) {
        int dot = call.getClassName().lastIndexOf('.');
        String folder = dot < 0 ? "" : call.getClassName().substring(0, dot + 1).replace('.', '/');
        String function = call.getClassName() + "." + call.getMethodName();
        String file = call.getFileName() != null ? call.getFileName() : call.getClassName().substring(dot + 1);
        return "[" + text(function) + "," + text(folder + file) + "," + Math.max(line, 0) + "]";
    }

    static synchronized void here(String name) {
        try {
            File file = new File(folder, "case-" + files++);
            new FileOutputStream(file).close();
            StackTraceElement[] calls = new Throwable().getStackTrace();
            StringBuilder line = new StringBuilder("{\"case\":" + text(name) + ",\"frames\":[");
            for (int at = 0; at < calls.length; at++) {
                // The file is opened some lines below.
                line.append(at == 0 ? "" : ",").append(call(calls[at], calls[at].getLineNumber() + (at == 0 ? 7 : 0)));
            }
            System.out.println(line + "]}");
            kept.add(new FileInputStream(file));
        } catch (Exception failure) {
            throw new RuntimeException(failure);
        }
    }

    interface Greets {
        default void greets() {
            here("default method");
        }

        static void ofInterface() {
            here("method of an interface");
        }
    }

    abstract static class Base {
        Base() {
            here("constructor of what is extended");
        }

        abstract void calls(int depth);

        void up() {
            here("what is inherited");
        }
    }

    static class Derived extends Base implements Greets {
        final Object field = kept.add(this);

        {
            here("initializer");
        }

        Derived() {
            super();
            here("constructor");
        }

        @Override
        void calls(int depth) {
            if (depth > 0) {
                calls(depth - 1);
            } else {
                here("recursion");
            }
        }

        class Inner {
            void inner() {
                here("inner class");
            }
        }
    }

    static class Initialized {
        static {
            here("static initializer");
        }

        static void use() {}
    }

    enum Constant {
        ONE {
            @Override
            void own() {
                here("body of a constant");
            }
        };

        abstract void own();
    }

    static <T extends Comparable<T>> T generic(T value) {
        here("generic method");
        return value;
    }

    static void variable(Object... values) {
        here("variable arguments");
    }

    static void exceptions() {
        try {
            Object nothing = null;
            nothing.toString();
        } catch (NullPointerException expected) {
            here("handler of a null pointer");
        } finally {
            here("finally");
        }
        try {
            throws_();
        } catch (IllegalStateException expected) {
            here("handler of what was thrown");
        }
    }

    static void throws_() {
        try (AutoCloseable closed = () -> here("closed at the end of a block")) {
            throw new IllegalStateException();
        } catch (IllegalStateException expected) {
            throw expected;
        } catch (Exception other) {
            throw new AssertionError(other);
        }
    }

    static void lambdas() throws Exception {
        Runnable lambda = () -> here("lambda");
        lambda.run();
        Supplier<Runnable> nested = () -> () -> here("lambda in a lambda");
        nested.get().run();
        Callable<Object> anonymous = new Callable<>() {
            @Override
            public Object call() {
                here("anonymous class");
                return null;
            }
        };
        anonymous.call();
        Runnable reference = Cases::referred;
        reference.run();
        List<Integer> numbers = Arrays.asList(3, 1, 2);
        numbers.forEach(number -> {
            if (number == 2) {
                here("forEach");
            }
        });
        numbers.sort(Comparator.comparing(Cases::key));
        Stream.of("a", "b").map(name -> {
            if (name.equals("b")) {
                here("stream");
            }
            return name;
        }).filter(name -> !name.isEmpty()).collect(Collectors.toList());
        Iterator<Integer> iterator = IntStream.range(0, 2).map(value -> {
            if (value == 1) {
                here("lazy stream");
            }
            return value;
        }).iterator();
        while (iterator.hasNext()) {
            iterator.next();
        }
    }

    static boolean sorted;

    static int key(int number) {
        if (!sorted) {
            sorted = true;
            here("key of a comparison");
        }
        return number;
    }

    static void referred() {
        here("method reference");
    }

    static void threads() throws Exception {
        Thread thread = new Thread(() -> here("thread"));
        thread.start();
        thread.join();
        var pool = Executors.newFixedThreadPool(1);
        pool.submit(() -> here("pool")).get();
        pool.shutdown();
        CompletableFuture.runAsync(() -> here("asynchronous")).thenRun(() -> {}).get();
        try {
            var virtual = Thread.class.getMethod("startVirtualThread", Runnable.class);
            ((Thread) virtual.invoke(null, (Runnable) () -> here("virtual thread"))).join();
        } catch (NoSuchMethodException older) {
            // Before 21 there are none.
        }
    }

    static void control(int number) {
        switch (number) {
            case 1:
                here("switch");
                break;
            default:
                here(
                    "call of several lines");
        }
        synchronized (kept) {
            here("synchronized");
        }
        boolean chosen = number > 1 ? hereToo("chosen") : hereToo("otherwise");
        for (int at = 0; at < 1; at++) here("loop"); here("two of a line");
        assert chosen;
    }

    static boolean hereToo(String name) {
        here(name);
        return true;
    }

    // Some rounds until it is compiled, with all that it calls; then it opens.
    static int hot(int left, String name, boolean opens) {
        if (left == 0 && opens) {
            here(name);
        }
        return left + small(left, name, opens);
    }

    static int small(int left, String name, boolean opens) {
        int sum = left * 31;
        if (left == 0 && opens) {
            here(name + ", inlined");
        }
        return sum;
    }

    static int looped(String name, int rounds) {
        int sum = 0;
        for (int round = 0; round < rounds; round++) {
            sum += hot(rounds - round - 1, name, true);
        }
        return sum;
    }

    // Compiled for one class, and no longer valid when there is another.
    static int used(IntUnaryOperator operator, int rounds) {
        int sum = 0;
        for (int round = 0; round < rounds; round++) {
            sum += operator.applyAsInt(round);
        }
        return sum;
    }

    static void compiled() {
        for (int round = 0; round < 20_000; round++) {
            hot(round + 1, "warm", false);
        }
        hot(0, "hot", true);
        looped("replaced in its loop", 200_000);
        for (int round = 0; round < 2_000; round++) {
            used(value -> value + 1, 10);
        }
        used(value -> {
            if (value == 5) {
                here("no longer valid");
            }
            return value;
        }, 10);
    }

    static void reflection() throws Exception {
        for (int round = 0; round < 30; round++) {
            Cases.class.getDeclaredMethod("reflected", int.class).invoke(null, round);
        }
        Object proxy = Proxy.newProxyInstance(Cases.class.getClassLoader(), new Class<?>[] {Runnable.class},
            (self, method, arguments) -> {
                here("proxy");
                return null;
            });
        ((Runnable) proxy).run();
        try {
            Cases.class.getDeclaredMethod("fails").invoke(null);
        } catch (InvocationTargetException expected) {
            here("handler of what was reflected");
        }
    }

    static void reflected(int round) {
        if (round == 0 || round == 29) {
            here("reflected " + round);
        }
    }

    static void fails() {
        throw new IllegalStateException();
    }

    static void deep(int left) {
        if (left == 0) {
            here("deep");
        } else {
            deep(left - 1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        folder = arguments[0];
        here("main");
        Derived derived = new Derived();
        derived.greets();
        derived.up();
        derived.calls(3);
        derived.new Inner().inner();
        Greets.ofInterface();
        Initialized.use();
        Constant.ONE.own();
        generic("value");
        variable(1, 2, 3);
        exceptions();
        lambdas();
        threads();
        control(1);
        control(2);
        reflection();
        compiled();
        deep(60);
        // What is open would be closed at the end otherwise.
        Runtime.getRuntime().halt(0);
    }
}
