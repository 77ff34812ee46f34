/* The exchange of RFC 7677, 3 (user "user", password "pencil"), in base64, and a mail that knows
 * it. */
#ifndef SP_PROTO_TEST_SCRAM_EXAMPLE_H
#define SP_PROTO_TEST_SCRAM_EXAMPLE_H

#include "base/buf.h"
#include "mail/request.h"

#define SCRAM_FIRST "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8="
#define SCRAM_CHALLENGE                                                                            \
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29F" \
    "c1VFamI2Z1E9PSxpPTQwOTY="
#define SCRAM_FINAL                                                                                \
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFw" \
    "V0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ=="
#define SCRAM_SIGNATURE "dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ=="
#define SCRAM_BAD_PROOF                                                                            \
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1BSHpiWmFw" \
    "V0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ=="
#define SCRAM_BAD_NONCE                                                                            \
    "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazB4LHA9ZEh6Ylph" \
    "cFdJazRqVWhOK1V0ZTl5dGFnOXpqZk1IZ3NxbW1pejdBbmRWUT0="
#define SCRAM_BAD_BINDING                                                                          \
    "Yz1lU3dzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFw" \
    "V0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ=="

static inline enum sp_status scram_example(const struct sp_request *request, struct sp_reply *reply)
{
    static const uint8_t proof[] = {0x74, 0x7c, 0xdb, 0x65, 0xaa, 0x56, 0x22, 0x4e,
                                    0x23, 0x52, 0x13, 0x7e, 0x52, 0xd7, 0xbd, 0xca,
                                    0xd6, 0xa0, 0xf7, 0x38, 0xdf, 0x30, 0x78, 0x2c,
                                    0xaa, 0x69, 0xa2, 0xcf, 0xb0, 0x27, 0x75, 0x54};
    if (request->type == SP_REQ_SCRAM) {
        if (!sp_slice_eq(request->authenticate.scram.nonce, SP_S("rOprNGfwEbeRWgbNEkqO")) ||
            !sp_slice_eq(request->authenticate.scram.first, SP_S("n=user,r=rOprNGfwEbeRWgbNEkqO")))
            return SP_DENIED;
        reply->sasl = SP_S("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s="
                           "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        return SP_OK;
    }
    reply->sasl = SP_S("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    return sp_slice_eq(request->authenticate.user, SP_S("user")) &&
                   sp_slice_eq(
                       request->authenticate.scram.final,
                       SP_S("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")) &&
                   memcmp(request->authenticate.scram.proof, proof, sizeof proof) == 0
               ? SP_OK
               : SP_DENIED;
}

#endif
