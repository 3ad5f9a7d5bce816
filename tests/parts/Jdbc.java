import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/** A client by JDBC: arguments are a URL and a statement that runs for a minute unless it is stopped; the token comes on standard input. */
class Jdbc {
    interface Work {
        void run(Statement statement) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Properties account = new Properties();
        account.put("user", "ann");
        account.put("password", new String(System.in.readAllBytes()).trim());
        try (Connection connection = DriverManager.getConnection(arguments[0], account)) {
            // The timeout and the cancelling thread go ways of their own in both drivers.
            ended(connection, "timeout", statement -> {
                statement.setQueryTimeout(1);
                statement.executeQuery(arguments[1]);
            });
            ended(connection, "cancel", statement -> {
                Thread other = new Thread(() -> {
                    try {
                        Thread.sleep(1000);
                        statement.cancel();
                    } catch (Exception fault) {
                        System.out.println("cancel() failed: " + fault);
                    }
                });
                other.start();
                try {
                    statement.executeQuery(arguments[1]);
                } finally {
                    other.join();
                }
            });
            try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("select 6 * 7")) {
                rows.next();
                System.out.println("alive " + rows.getInt(1));
            }
        }
    }

    /** Says how a statement ended, and whether it was stopped long before its minute was over. */
    static void ended(Connection connection, String name, Work work) throws Exception {
        long started = System.nanoTime();
        String how = "ran to its end";
        try (Statement statement = connection.createStatement()) {
            work.run(statement);
        } catch (SQLException fault) {
            how = "stopped " + fault.getSQLState();
        }
        long seconds = (System.nanoTime() - started) / 1_000_000_000L;
        System.out.println(name + " " + how + (seconds < 20 ? " at once" : " after " + seconds + " s"));
    }
}
