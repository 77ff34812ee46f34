/* The configuration: one INI file, read whole, checked whole, then never changed.
 *
 * Model. inih takes the lines apart; every key is named in one table (config.c) with how its value
 * is read. Whatever is not in the table, given twice, or out of range is an error that names file,
 * line, section and key, and says what would be right. After the last line the parts are checked
 * against each other: volumes name units that exist, have enough replicas and voters, and so on.
 * Relative paths start from the file's own folder.
 *
 *     [server]       hostname, state, postmaster
 *     [listen]       smtp, smtps, lmtp, imap, imaps, ...: ADDRESS:PORT, several separated by
 *                    blanks; metrics: ADDRESS:PORT on loopback, or unix:PATH; metrics_anywhere
 *     [tls]          cert, key
 *     [limits]       message_bytes_max, connections, connections_per_peer, incoming_bodies,
 *                    workers, hash_threads
 *     [guard]        cooling_off, approvers, approvals
 *     [unit NAME]    kind, path, role, id, parity
 *     [volume NAME]  units, min_copies, id, degraded, segment_size, reserve, unit_timeout,
 *                    resilver_rate, scrub_rate, scrub_max_age, hold, compact_below,
 *                    compact_rate, allow_shared_domain
 *
 * Sizes are bytes or carry K, M, G, T (powers of 1024); times carry ms, s, min, h or d. A line is
 * at most 198 bytes.
 *
 * Ownership. Everything hangs on the config and lives until sp_config_release. Threads: read-only
 * after reading.
 */
#ifndef SP_CMD_CONFIG_H
#define SP_CMD_CONFIG_H

#include "base/arena.h"
#include "base/uuid.h"
#include "format/parity.h"

#define SP_CONFIG_FILE_MAX      1048576U
#define SP_CONFIG_LISTENERS_MAX 64U
#define SP_CONFIG_UNITS_MAX     16U /* of a volume: SP_VOLUME_UNITS_MAX */
#define SP_CONFIG_APPROVERS_MAX 8U
#define SP_CONFIG_NAME_MAX      32U /* bytes of a unit's or volume's name */

enum sp_protocol {
    SP_PROTOCOL_SMTP,
    SP_PROTOCOL_SMTPS,
    SP_PROTOCOL_LMTP,
    SP_PROTOCOL_IMAP,
    SP_PROTOCOL_IMAPS,
    /* Known names whose sessions this version does not have: said at start, not listened on. */
    SP_PROTOCOL_SUBMISSION,
    SP_PROTOCOL_SUBMISSIONS,
    SP_PROTOCOL_POP3,
    SP_PROTOCOL_POP3S,
    SP_PROTOCOL_HTTP,
    SP_PROTOCOL_HTTPS,
    SP_PROTOCOLS,
};
/* "smtp"; also the key in [listen]. */
const char *sp_protocol_name(enum sp_protocol protocol);

struct sp_config_listener {
    enum sp_protocol protocol;
    const char *address;
};

enum sp_config_role { SP_ROLE_REPLICA, SP_ROLE_SPARE, SP_ROLE_WITNESS };

struct sp_config_unit {
    const char *name;
    const char *path; /* absolute */
    enum sp_config_role role;
    bool has_id;
    struct sp_uuid id;             /* what unit.id must say */
    struct sp_parity_shape parity; /* of its sidecars; data_rows 0: it has none */
    unsigned line;                 /* of its section */
    bool used;                     /* by a volume */
};

struct sp_config_volume {
    const char *name;
    bool has_id;
    struct sp_uuid id; /* otherwise that of its units */
    /* Three voters are needed at least. With two units the state folder is the third, if it lies in
     * a failure domain of its own. */
    struct sp_config_unit *units[SP_CONFIG_UNITS_MAX];
    uint32_t units_count;
    uint32_t min_copies;
    bool degraded_accept;
    bool allow_shared_domain;
    uint64_t segment_bytes;
    uint64_t reserve_bytes; /* kept free on every replica; UINT64_MAX: two segments */
    uint32_t unit_timeout_ms;
    uint64_t resilver_rate, scrub_rate; /* bytes a second; scrub_rate 0: only when asked for */
    uint64_t scrub_max_age_s;           /* after that it is overdue; 0: never */
    uint64_t hold_s; /* how long what was expunged can be brought back, and retired segments stay */
    uint32_t compact_below; /* percent of live bytes */
    uint64_t compact_rate;  /* bytes a second; 0: only when asked for */
    unsigned line;
};

struct sp_config {
    struct sp_arena arena;
    const char *path;   /* of the file, as it was given */
    const char *folder; /* absolute */

    const char *hostname;
    const char *state; /* absolute */
    /* The account that gets what is for <postmaster> and for postmaster@ any domain of ours, where
     * there is no such account; NULL: such mail is refused, although RFC 5321 4.5.1 wants it taken.
     */
    const char *postmaster;

    struct sp_config_listener listeners[SP_CONFIG_LISTENERS_MAX];
    uint32_t listeners_count;
    const char *metrics;   /* "127.0.0.1:9187" or "unix:/PATH"; NULL: nobody is told */
    bool metrics_anywhere; /* it need not be a loopback address */
    unsigned metrics_line;

    const char *tls_cert, *tls_key; /* absolute; NULL: no TLS */

    uint64_t message_bytes_max;
    uint32_t connections_max, connections_per_peer_max; /* 0: no limit for a peer */
    uint32_t incoming_bodies_max;
    uint32_t workers;      /* 0: by the number of processors */
    uint32_t hash_threads; /* Argon2id */

    uint64_t guard_cooling_s;    /* how long what destroys data waits, and can be undone */
    uint32_t guard_approvals;    /* how many other persons must approve of it */
    const char *guard_approvers; /* Unix users, separated by blanks; NULL: none */

    struct sp_config_unit *units;
    uint32_t units_count;
    struct sp_config_volume volume; /* one volume so far */
};

/* Reads and checks the file. On failure *error says where and what would be right, and nothing is
 * held. SP_NOT_FOUND: there is no such file; SP_INVALID; SP_IO; SP_LIMIT; SP_NO_MEMORY. */
enum sp_status sp_config_read(const char *path, struct sp_config *ret_config,
                              struct sp_error *error) SP_MUST_USE;
/* The same from memory: `folder` is what relative paths start from, `path` the name for errors. */
enum sp_status sp_config_parse(struct sp_slice text, const char *path, const char *folder,
                               struct sp_config *ret_config, struct sp_error *error) SP_MUST_USE;
void sp_config_release(struct sp_config *config);

/* The file to use: `given`, or ./sternpost.conf, or /etc/sternpost/sternpost.conf, whichever is
 * there first. SP_NOT_FOUND with an error that says where it was looked for. */
enum sp_status sp_config_find(const char *given, const char **ret_path,
                              struct sp_error *error) SP_MUST_USE;

/* Values, as the file writes them; for tests and for options of commands. SP_INVALID, SP_LIMIT. A
 * parity is "16+2" or "off". */
enum sp_status sp_config_parity(struct sp_slice text, struct sp_parity_shape *ret) SP_MUST_USE;
enum sp_status sp_config_size(struct sp_slice text, uint64_t *ret_bytes) SP_MUST_USE;
enum sp_status sp_config_duration_ms(struct sp_slice text, uint64_t *ret_ms) SP_MUST_USE;

#endif
