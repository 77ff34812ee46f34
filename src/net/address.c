#include "net/address.h"

#include "base/slice.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

enum sp_status sp_address_parse(const char *text, struct sp_address *ret_address, bool *ret_any)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || sp_slice_u64(sp_slice_str(colon + 1), 65535, &port) != SP_OK)
        return SP_INVALID;

    char host[INET6_ADDRSTRLEN];
    size_t len = (size_t)(colon - text);
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof host)
        return SP_INVALID;
    memcpy(host, text, len);
    host[len] = '\0';

    struct sp_address address = {.port = (uint16_t)port};
    if (bracketed) {
        if (inet_pton(AF_INET6, host, address.ip) != 1)
            return SP_INVALID;
    } else if (len > 0) {
        memcpy(address.ip, mapped, sizeof mapped);
        if (inet_pton(AF_INET, host, address.ip + 12) != 1)
            return SP_INVALID;
    }
    *ret_address = address;
    *ret_any = len == 0;
    return SP_OK;
}

struct sp_address sp_address_from(const struct sockaddr_storage *sockaddr)
{
    struct sp_address address = {0};
    if (sockaddr->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sockaddr, sizeof in6);
        memcpy(address.ip, &in6.sin6_addr, 16);
        address.port = ntohs(in6.sin6_port);
    } else if (sockaddr->ss_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, sockaddr, sizeof in4);
        memcpy(address.ip, mapped, sizeof mapped);
        memcpy(address.ip + 12, &in4.sin_addr, 4);
        address.port = ntohs(in4.sin_port);
    }
    return address;
}

socklen_t sp_address_to(const struct sp_address *address, struct sockaddr_storage *ret_sockaddr)
{
    memset(ret_sockaddr, 0, sizeof *ret_sockaddr);
    if (sp_address_is_v4(address)) {
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&in4.sin_addr, address->ip + 12, 4);
        memcpy(ret_sockaddr, &in4, sizeof in4);
        return sizeof in4;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
    memcpy(&in6.sin6_addr, address->ip, 16);
    memcpy(ret_sockaddr, &in6, sizeof in6);
    return sizeof in6;
}

bool sp_address_is_v4(const struct sp_address *address)
{
    return memcmp(address->ip, mapped, sizeof mapped) == 0;
}

bool sp_address_is_loopback(const struct sp_address *address)
{
    static const uint8_t one[16] = {[15] = 1};
    if (sp_address_is_v4(address))
        return address->ip[12] == 127;
    return memcmp(address->ip, one, 16) == 0;
}

void sp_address_literal(const struct sp_address *address, char ret_text[SP_ADDRESS_TEXT])
{
    char text[INET6_ADDRSTRLEN] = "";
    if (sp_address_is_v4(address)) {
        inet_ntop(AF_INET, address->ip + 12, text, sizeof text);
        snprintf(ret_text, SP_ADDRESS_TEXT, "%s", text);
    } else {
        inet_ntop(AF_INET6, address->ip, text, sizeof text);
        snprintf(ret_text, SP_ADDRESS_TEXT, "IPv6:%s", text);
    }
}
