/* IP addresses and ports: as configured, as the kernel has them, as sessions are told them. IPv4 is
 * kept in IPv6's mapped form (RFC 4291 2.5.5.2). */
#ifndef SP_NET_ADDRESS_H
#define SP_NET_ADDRESS_H

#include "base/status.h"

#include <stdint.h>
#include <sys/socket.h>

#define SP_ADDRESS_TEXT 64

struct sp_address {
    uint8_t ip[16];
    uint16_t port;
};

/* "127.0.0.1:25", "[::1]:25"; ":25" sets *ret_any: every address of both families. No names.
 * SP_INVALID. */
enum sp_status sp_address_parse(const char *text, struct sp_address *ret_address,
                                bool *ret_any) SP_MUST_USE;
/* AF_INET or AF_INET6; anything else becomes "::". */
struct sp_address sp_address_from(const struct sockaddr_storage *sockaddr);
/* As AF_INET if it is an IPv4 address, else AF_INET6. */
socklen_t sp_address_to(const struct sp_address *address, struct sockaddr_storage *ret_sockaddr);
bool sp_address_is_v4(const struct sp_address *address);
/* 127.0.0.0/8 or ::1. */
bool sp_address_is_loopback(const struct sp_address *address);
/* Without the port, as RFC 5321 4.1.3 writes literals but without brackets: "192.0.2.1",
 * "IPv6:2001:db8::1". */
void sp_address_literal(const struct sp_address *address, char ret_text[SP_ADDRESS_TEXT]);

#endif
